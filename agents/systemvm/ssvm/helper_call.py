# SPDX-License-Identifier: Apache-2.0
"""One call of a root helper: its operation, its permitted callers, and its response with descriptors.

Nothing here needs Twisted or accesses a store; `helper_server` runs `Operation.run` in a process of its own.
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

#: Member of a request besides those of JSON-RPC: the caller's deadline in seconds on CLOCK_MONOTONIC, which
#: all processes of a machine share (clock_gettime(2)).
EXPIRES = "expires_monotonic_s"
#: Notification to a caller that its call has begun: a delay from then on is the store's.
BEGUN_LINE = frame.encode(message.Request("helper.begun", None, None, None).to_wire())

#: Notification of how far a call is, of operations that report it.
PROGRESS_METHOD = "helper.progress"

_log = logging.getLogger(__name__)


@frozen
class Reply:
    """The result of an operation and descriptors to send with it; these are closed after they were sent."""

    result: Any
    descriptors: tuple[int, ...] = ()


@frozen
class Operation:
    """One method: `run` gets the uid of the caller and the parameters, and can block as long as a store."""

    params: Any
    run: Callable[..., Reply]
    may_call: Callable[[int], bool] = lambda uid: uid == 0
    #: The store of a call; calls for one store share its slots.
    store_of: Callable[[Any], str] = lambda params: ""
    #: Whether it can be killed at any point when its caller does not wait any more.
    cancellable: bool = False
    #: Keys of what it changes: calls with a key in common never run at the same time.
    exclusive: Callable[[Any], frozenset[str]] = lambda params: frozenset()
    #: Whether `run` takes a third argument, a function that sends its argument to the caller as progress.
    reports: bool = False


@frozen
class HelperCall:
    """A parsed call that its caller is allowed to make."""

    id: message.MessageId | None
    operation: Operation
    uid: int
    params: Any
    expires_s: float | None

    @property
    def group(self) -> str:
        return f"{self.uid}:{self.operation.store_of(self.params)}"

    def perform(self, report: Callable[[Any], None] = lambda progress: None) -> Reply:
        """Run the operation; `report` gets the progress of one that reports it.

        Raises: RpcError for every failure.
        """
        try:
            if self.operation.reports:
                return self.operation.run(self.uid, self.params, report)
            return self.operation.run(self.uid, self.params)
        except RpcError:
            raise
        except TransferError as refused:
            raise refused.to_rpc() from None
        except OSError as failed:
            raise of_store(failed, failed.filename or "a file operation").to_rpc() from None
        except Exception:
            _log.exception("operation failed")
            hint = {"hint": "read the helper's journal"}
            raise RpcError(INTERNAL, "the helper failed", hint) from None


class RefusedCall(SystemVmError):  # noqa: N818
    """A line that is not a call, or a call that is not allowed; `error` is the response to `id`."""

    def __init__(self, call_id: message.MessageId | None, error: RpcError) -> None:
        super().__init__(error.message, error.hint, code=error.code)
        self.id = call_id
        self.error = error


def read_call(operations: Mapping[str, Operation], uid: int, line: bytes) -> HelperCall:
    """Parse a line.

    Raises: RefusedCall when it is not a call, or one that this user is not allowed to make.
    """
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
            raise RpcError(FORBIDDEN, f"uid {uid} is not allowed to call {request.method}")
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


def send_progress(connection: socket.socket, progress: Any) -> None:
    """Send the progress of a call over a blocking socket; nothing happens when its caller is gone."""
    note = message.Request(PROGRESS_METHOD, msgspec.to_builtins(progress), None, None)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(frame.encode(note.to_wire()))


def send_answer(
    connection: socket.socket, call_id: message.MessageId | None, outcome: Reply | RpcError
) -> None:
    """Send a result or an error over a blocking socket.

    Descriptors are sent with the first byte, then closed.
    """
    descriptors: tuple[int, ...] = ()
    if isinstance(outcome, RpcError):
        answer = message.Response(call_id, error=outcome)
    else:
        answer, descriptors = message.Response(call_id, result=outcome.result), outcome.descriptors
    try:
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # its caller has closed the connection
            line = frame.encode(answer.to_wire())
            socket.send_fds(connection, [line[:1]], descriptors)
            connection.sendall(line[1:])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
