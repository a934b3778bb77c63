# SPDX-License-Identifier: Apache-2.0
"""One call to a helper that is started for it: a JSON-RPC message in, one out, descriptors beside it.

The service manager accepts and hands the connection over as standard input (Accept=yes). Nothing here needs
Twisted: such a process lives for milliseconds, and a blocking client is what a thread wants.
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from attrs import frozen

from systemvm.rpc import frame, message
from systemvm.rpc.errors import (
    DEADLINE,
    FORBIDDEN,
    INTERNAL,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    NOT_CONNECTED,
    RpcError,
)
from systemvm.ssvm.failure import TransferError, of_store

REQUEST_TIMEOUT_S = 10.0
MAX_DESCRIPTORS = 4
_log = logging.getLogger(__name__)


@frozen
class Reply:
    """What an operation answers, and the descriptors that go with it; they are closed once they are sent."""

    result: Any
    descriptors: tuple[int, ...] = ()


@frozen
class Operation:
    """One method: `run` gets the caller's uid and the parameters."""

    params: Any
    run: Callable[[int, Any], Reply]
    may_call: Callable[[int], bool] = lambda uid: uid == 0


def serve(connection: socket.socket, operations: Mapping[str, Operation]) -> None:
    """Answer the one call that comes over `connection`."""
    connection.settimeout(REQUEST_TIMEOUT_S)
    _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    call_id: message.MessageId | None = None
    reply = Reply(None)
    error: RpcError | None = None
    try:
        request = message.read(frame.decode(_read_line(connection)))
        if not isinstance(request, message.Request):
            raise RpcError(-32600, "invalid request")
        call_id = request.id
        reply = _perform(operations, uid, request)
    except message.InvalidMessage as invalid:
        error = RpcError(-32600, "invalid request", {"hint": str(invalid)})
    except RpcError as refused:
        error = refused
    except TransferError as refused:
        error = refused.to_rpc()
    except OSError as failed:
        error = of_store(failed, failed.filename or "a file operation").to_rpc()
    except Exception:
        _log.exception("the operation failed")
        error = RpcError(INTERNAL, "the helper failed", {"hint": "its journal says more"})
    answer = message.Answer(call_id, error=error) if error else message.Answer(call_id, result=reply.result)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        line = frame.encode(answer.to_wire())
        socket.send_fds(connection, [line[:1]], reply.descriptors)
        connection.sendall(line[1:])
    for descriptor in reply.descriptors:
        os.close(descriptor)


def _perform(operations: Mapping[str, Operation], uid: int, request: message.Request) -> Reply:
    operation = operations.get(request.method)
    if operation is None:
        raise RpcError(METHOD_NOT_FOUND, f"no method {request.method[:100]}")
    if not operation.may_call(uid):
        raise RpcError(FORBIDDEN, f"uid {uid} may not call {request.method}")
    try:
        params = msgspec.convert(request.params or {}, type=operation.params)
    except msgspec.ValidationError as error:
        hint = {"hint": str(error)}
        raise RpcError(INVALID_PARAMS, f"bad parameters for {request.method}", hint) from None
    return operation.run(uid, params)


def call(path: Path, method: str, params: Any, result: Any, timeout_s: float) -> tuple[Any, list[int]]:
    """Call a helper and wait: (result, descriptors). RpcError when it refuses or is not there."""
    request = message.Request(method, msgspec.to_builtins(params), 1, None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(frame.encode(request.to_wire()))
            line, descriptors = _read_answer(connection)
        except TimeoutError:
            text = f"{path.name} did not answer {method} in {timeout_s:g} s"
            raise RpcError(DEADLINE, text, {"hint": "the NFS server may not answer; check it"}) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            hint = {"hint": "systemctl status systemvm-*.socket shows its listener"}
            raise RpcError(NOT_CONNECTED, f"{path} cannot be asked: {why}", hint) from None
    try:
        answer = message.read(frame.decode(line))
        if not isinstance(answer, message.Answer):
            raise RpcError(INTERNAL, f"{path.name} sent no answer")
        if answer.error is not None:
            raise answer.error
        return msgspec.convert(answer.result, type=result), descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _read_line(connection: socket.socket) -> bytes:
    splitter = frame.LineSplitter()
    while data := connection.recv(65536):
        for line in splitter.feed(data):
            return line
    raise RpcError(NOT_CONNECTED, "the connection ended before its message did")


def _read_answer(connection: socket.socket) -> tuple[bytes, list[int]]:
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _, _ = connection.recvmsg(1, space, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    try:
        splitter = frame.LineSplitter()
        while data:
            for line in splitter.feed(data):
                return line, list(descriptors)
            data = connection.recv(65536)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    for descriptor in descriptors:
        os.close(descriptor)
    raise ConnectionResetError(104, "it ended without an answer")


def serve_standard_input(operations: Mapping[str, Operation]) -> int:
    """The `main` of a helper: the accepted connection is descriptor 0."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    os.umask(0o022)
    # standard output is the same connection; nothing may be printed into it by mistake
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with socket.socket(fileno=os.dup(0)) as connection:
        serve(connection, operations)
    return 0
