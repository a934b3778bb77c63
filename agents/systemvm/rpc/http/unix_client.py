# SPDX-License-Identifier: Apache-2.0
"""Blocking clients of a JSON-RPC UNIX socket, for the command line and scripts: no Twisted."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from systemvm.rpc.core.errors import DEADLINE, FORBIDDEN, INTERNAL, NOT_CONNECTED, RpcError

MAX_EVENT_BYTES = 1024 * 1024


class UnreachableError(RpcError):
    """There is no listener, or this user is not allowed to open its socket."""


def unix_call(
    path: str | Path,
    method: str,
    params: Any = None,
    timeout_s: float = 30.0,
    *,
    result: Any = None,
    request_id: str | None = None,
) -> Any:
    """Call `method` of the listener at `path` and return its result.

    Raises: RpcError: that of the listener, UnreachableError, or DEADLINE.
    """
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if params is not None:
        message["params"] = params
    message["request_id"] = request_id or os.urandom(8).hex()
    connection = _UnixConnection(path, timeout_s)
    try:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", "/rpc", msgspec.json.encode(message), headers)
        response = connection.getresponse()
        answer = _read_json(path, response)
    except TimeoutError:
        raise RpcError(DEADLINE, f"{path} did not answer {method} in {timeout_s:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(path, error) from None
    finally:
        connection.close()
    value = _result(path, answer)
    if result is None:
        return value
    try:
        return msgspec.convert(value, type=result, strict=True)
    except msgspec.ValidationError as error:
        text = f"result of {method} from {path} has an unexpected type"
        raise RpcError(INTERNAL, text, {"hint": str(error)}) from None


def unix_events(
    path: str | Path, job: str | None = None, timeout_s: float = 60.0
) -> Iterator[dict[str, Any]]:
    """Yield the events of a job until it ends; `timeout_s` limits the time between two events or comments.

    Close the iterator to disconnect early.
    """
    connection = _UnixConnection(path, timeout_s)
    try:
        target = "/events" if job is None else f"/events?job={quote(job, safe='')}"
        connection.request("GET", target, headers={"Accept": "text/event-stream"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            _result(path, _read_json(path, response))
            raise RpcError(INTERNAL, f"{path} answered {response.status} to {target}")
        yield from _events(response)
    except TimeoutError:
        raise RpcError(DEADLINE, f"{path} sent nothing for {timeout_s:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(path, error) from None
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str | Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = os.fspath(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    kind, data = "", b""
    while line := response.readline(MAX_EVENT_BYTES):
        name, _, value = line.rstrip(b"\r\n").partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            kind = value.decode("utf-8", "replace")
        elif name == b"data":
            data += value
        elif line in (b"\n", b"\r\n") and data:
            decoded = msgspec.json.decode(data)
            if kind == "error":
                raise RpcError.from_wire(decoded)
            yield decoded
            kind, data = "", b""


def _read_json(path: str | Path, response: http.client.HTTPResponse) -> Any:
    body = response.read()
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError):
        text = f"{path} answered {response.status} {response.reason} instead of JSON-RPC"
        raise RpcError(INTERNAL, text, {"hint": "check that it is a socket of systemvm"}) from None


def _result(path: str | Path, answer: Any) -> Any:
    if isinstance(answer, dict) and "error" in answer:
        try:
            raise RpcError.from_wire(answer["error"])
        except ValueError:
            raise RpcError(INTERNAL, f"error from {path} has an unexpected type") from None
    if not isinstance(answer, dict) or "result" not in answer:
        raise RpcError(INTERNAL, f"response from {path} is not JSON-RPC")
    return answer["result"]


def _unreachable(path: str | Path, error: Exception) -> UnreachableError:
    if isinstance(error, PermissionError):
        hint = {"hint": "run this as root or as a member of the group systemvm"}
        return UnreachableError(FORBIDDEN, f"you are not allowed to open {path}", hint)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hint = {"hint": 'start the service: run "systemctl status systemvm-managementd"'}
    return UnreachableError(NOT_CONNECTED, f"nothing answers at {path}: {reason}", hint)
