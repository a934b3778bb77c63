# SPDX-License-Identifier: Apache-2.0
"""A helper answers each request, also one whose handler fails, and serves the next one."""

from __future__ import annotations

import errno
import json
import socket
from typing import Any

import pytest

from systemvm.service import unix_calls


@pytest.mark.parametrize(
    ("error", "message", "logged"),
    [
        (OSError(errno.ENOTEMPTY, "Directory not empty"), "request failed: Directory not empty", "OSError"),
        (AttributeError("secret"), "request failed: unexpected error", "AttributeError: secret"),
    ],
)
def test_a_handler_that_fails_is_a_refusal(error: Exception, message: str, logged: str) -> None:
    def fail(request: dict[str, Any], descriptors: list[int]) -> tuple[dict[str, Any], list[int]]:
        raise error

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(b"{}")
        refusal = unix_calls._answer(theirs, fail)
        answer = json.loads(ours.recv(unix_calls.PACKET_BYTES))
    assert answer == {"refused": message, "hint": "read the journal of the helper"}
    assert refusal is not None
    assert logged in refusal
