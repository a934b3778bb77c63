# SPDX-License-Identifier: Apache-2.0
"""Calls of a root helper: permitted callers, refusals and failures."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.helper_call import EXPIRES, Operation, RefusedCall, Reply, read_call, send_answer
from systemvm.wire.transfer_failure import TransferFailure


@frozen
class Number:
    number: int


def twice(uid: int, params: Number) -> Reply:
    return Reply(Number(2 * params.number))


def refuse(uid: int, params: Number) -> Reply:
    raise TransferError(TransferFailure.STORE_NOT_MOUNTED, "not mounted", "mount it")


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


def send_line(line: bytes) -> Any:
    """Return the response of a helper to a line, over a socket pair."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            request = read_call(OPERATIONS, os.getuid(), line)
        except RefusedCall as refused:
            send_answer(theirs, refused.id, refused.error)
        else:
            try:
                send_answer(theirs, request.id, request.perform())
            except RpcError as error:
                send_answer(theirs, request.id, error)
        theirs.close()
        return json.loads(b"".join(iter(lambda: ours.recv(65536), b"")))


def call(method: str, params: Any) -> Any:
    return send_line(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())


def test_a_call_returns_its_result() -> None:
    assert call("twice", {"number": 4}) == {"jsonrpc": "2.0", "id": 1, "result": {"number": 8}}


@pytest.mark.parametrize(
    ("method", "params", "code", "reason"),
    [
        ("twice", {"number": "4"}, -32602, "invalid-parameters"),
        ("twice", {}, -32602, "invalid-parameters"),
        ("absent", {}, -32601, "unknown-method"),
        ("closed", {"number": 1}, -32001, "forbidden"),
        ("refuse", {"number": 1}, -32010, "store_not_mounted"),
        ("fail", {"number": 1}, -32010, "store_full"),
        ("break", {"number": 1}, -32603, "internal"),
    ],
)
def test_a_failure_has_its_code_and_reason(method: str, params: Any, code: int, reason: str) -> None:
    error = call(method, params)["error"]
    assert (error["code"], error.get("data", {}).get("reason")) == (code, reason)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("line", "code"),
    [(b"nonsense", -32700), (b"[]", -32600), (b"{}", -32600), (b"[" * 99, -32700)],
)
def test_an_invalid_line_is_refused(line: bytes, code: int) -> None:
    assert send_line(line)["error"]["code"] == code


def test_deadline_and_store_of_a_call_are_parsed() -> None:
    operation = Operation(Number, twice, lambda uid: True, lambda params: f"store {params.number}")
    line = {"jsonrpc": "2.0", "id": 1, "method": "twice", "params": {"number": 3}, EXPIRES: 12.5}
    request = read_call({"twice": operation}, 7, json.dumps(line).encode())
    assert (request.expires_s, request.group) == (12.5, "7:store 3")
    with pytest.raises(RefusedCall):
        read_call({"twice": operation}, 7, json.dumps({**line, EXPIRES: "soon"}).encode())


def test_descriptors_are_sent_with_the_response_and_closed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        directory = os.open("/", os.O_RDONLY)
        send_answer(theirs, 1, Reply(None, (directory,)))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(directory)
        _, [received], _, _ = socket.recv_fds(ours, 65536, 4)
        assert os.fstat(received).st_ino == Path("/").stat().st_ino
        os.close(received)


def test_descriptors_of_a_disconnected_caller_are_closed() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        directory = os.open("/", os.O_RDONLY)
        send_answer(theirs, 1, Reply(None, (directory,)))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(directory)
