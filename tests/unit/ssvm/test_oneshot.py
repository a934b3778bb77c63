# SPDX-License-Identifier: Apache-2.0
"""One call over one connection: who may call, what is refused, and that descriptors are passed and closed."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import Any

import pytest
from attrs import frozen

from systemvm.ssvm import oneshot
from systemvm.ssvm.failure import Code, TransferError
from systemvm.ssvm.oneshot import Operation, Reply


@frozen
class Number:
    number: int


def twice(uid: int, params: Number) -> Reply:
    return Reply(Number(2 * params.number))


def refuse(uid: int, params: Number) -> Reply:
    raise TransferError(Code.STORE_NOT_MOUNTED, "not mounted", "mount it")


def fail(uid: int, params: Number) -> Reply:
    raise OSError(28, "No space left on device")


def break_down(uid: int, params: Number) -> Reply:
    raise KeyError("inner secret")


OPERATIONS = {
    "twice": Operation(Number, twice, lambda uid: uid == os.getuid()),
    "refuse": Operation(Number, refuse, lambda uid: True),
    "fail": Operation(Number, fail, lambda uid: True),
    "break": Operation(Number, break_down, lambda uid: True),
    "closed": Operation(Number, twice, lambda uid: False),
}


def ask(line: bytes) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        serving = threading.Thread(target=oneshot.serve, args=(theirs, OPERATIONS))
        serving.start()
        ours.sendall(line)
        ours.shutdown(socket.SHUT_WR)
        serving.join(10)
        theirs.close()
        return json.loads(b"".join(iter(lambda: ours.recv(65536), b"")))


def call(method: str, params: Any) -> Any:
    return ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")


def test_answers() -> None:
    assert call("twice", {"number": 4}) == {"jsonrpc": "2.0", "id": 1, "result": {"number": 8}}


@pytest.mark.parametrize(
    ("method", "params", "code", "reason"),
    [
        ("twice", {"number": "4"}, -32602, None),
        ("twice", {}, -32602, None),
        ("absent", {}, -32601, None),
        ("closed", {"number": 1}, -32001, None),
        ("refuse", {"number": 1}, -32010, "store_not_mounted"),
        ("fail", {"number": 1}, -32010, "store_full"),
        ("break", {"number": 1}, -32603, None),
    ],
)
def test_refuses(method: str, params: Any, code: int, reason: str | None) -> None:
    error = call(method, params)["error"]
    assert (error["code"], error.get("data", {}).get("reason")) == (code, reason)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"nonsense\n", -32700), (b"[]\n", -32600), (b"{}\n", -32600), (b"[" * 99 + b"\n", -32700)],
)
def test_what_is_no_call(line: bytes, code: int) -> None:
    assert ask(line)["error"]["code"] == code
