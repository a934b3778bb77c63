# SPDX-License-Identifier: Apache-2.0
"""One call of a root helper: what it may be, who may make it, and how its answer and descriptors go back.

Nothing here needs Twisted or touches a store; `helper_server` runs `Operation.run` in a process of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from attrs import frozen

from systemvm.rpc.core import frame, message
from systemvm.rpc.core.errors import (
    FORBIDDEN,
    INTERNAL,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    RpcError,
)
from systemvm.service.errors import SystemVmError
from systemvm.ssvm.failure import TransferError, of_store

#: Member of a request besides JSON-RPC's: its caller's deadline, in seconds on CLOCK_MONOTONIC, which all
#: processes of a machine share (clock_gettime(2)).
EXPIRES = "expires_monotonic_s"
#: A notification to a caller when its call begins: what takes long from then on is the store.
BEGUN_LINE = frame.encode(message.Request("helper.begun", None, None, None).to_wire())

_log = logging.getLogger(__name__)


@frozen
class Reply:
    """What an operation answers, and the descriptors that go with it; they are closed once they are sent."""

    result: Any
    descriptors: tuple[int, ...] = ()


@frozen
class Operation:
    """One method: `run` gets the caller's uid and the parameters, and may block as long as a store does."""

    params: Any
    run: Callable[[int, Any], Reply]
    may_call: Callable[[int], bool] = lambda uid: uid == 0
    #: The store that a call is about; calls of one store share its slots.
    store_of: Callable[[Any], str] = lambda params: ""
    #: Whether it can be killed half-way when nobody waits for its answer any more.
    cancellable: bool = False
    #: What it changes: calls with a key in common never run side by side, whoever makes them.
    exclusive: Callable[[Any], frozenset[str]] = lambda params: frozenset()


@frozen
class HelperCall:
    """A call that was read and may be made."""

    id: message.MessageId | None
    operation: Operation
    uid: int
    params: Any
    expires_s: float | None

    @property
    def group(self) -> str:
        return f"{self.uid}:{self.operation.store_of(self.params)}"

    def perform(self) -> Reply:
        """Do it; RpcError for everything that goes wrong."""
        try:
            return self.operation.run(self.uid, self.params)
        except RpcError:
            raise
        except TransferError as refused:
            raise refused.to_rpc() from None
        except OSError as failed:
            raise of_store(failed, failed.filename or "a file operation").to_rpc() from None
        except Exception:
            _log.exception("the operation failed")
            raise RpcError(INTERNAL, "the helper failed", {"hint": "its journal says more"}) from None


class RefusedCall(SystemVmError):  # noqa: N818
    """A line that is no call, or one that may not be made; `error` goes back under `id`."""

    def __init__(self, call_id: message.MessageId | None, error: RpcError) -> None:
        super().__init__(error.message, error.hint, code=error.code)
        self.id = call_id
        self.error = error


def read_call(operations: Mapping[str, Operation], uid: int, line: bytes) -> HelperCall:
    """The call that a line holds; RefusedCall when it holds none, or one that this user may not make."""
    call_id: message.MessageId | None = None
    try:
        decoded = frame.decode(line)
        request = message.read(decoded)
        if not isinstance(request, message.Request):
            raise RpcError(INVALID_REQUEST, "invalid request")
        call_id = request.id
        operation = operations.get(request.method)
        if operation is None:
            raise RpcError(METHOD_NOT_FOUND, f"no method {request.method[:100]}")
        if not operation.may_call(uid):
            raise RpcError(FORBIDDEN, f"uid {uid} may not call {request.method}")
        params = msgspec.convert(request.params or {}, type=operation.params)
        expires_s = msgspec.convert(decoded.get(EXPIRES), type=float | None)
        return HelperCall(call_id, operation, uid, params, expires_s)
    except message.InvalidMessage as invalid:
        error = RpcError(INVALID_REQUEST, "invalid request", {"hint": str(invalid)})
    except msgspec.ValidationError as invalid:
        error = RpcError(INVALID_PARAMS, "invalid parameters", {"hint": str(invalid)})
    except TransferError as refused:
        error = refused.to_rpc()
    except RpcError as refused:
        error = refused
    raise RefusedCall(call_id, error)


def send_answer(
    connection: socket.socket, call_id: message.MessageId | None, outcome: Reply | RpcError
) -> None:
    """Send a result or an error over a blocking socket; descriptors go with the first byte and are closed."""
    descriptors: tuple[int, ...] = ()
    if isinstance(outcome, RpcError):
        answer = message.Response(call_id, error=outcome)
    else:
        answer, descriptors = message.Response(call_id, result=outcome.result), outcome.descriptors
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its caller hung up
            line = frame.encode(answer.to_wire())
            socket.send_fds(connection, [line[:1]], descriptors)
            connection.sendall(line[1:])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
