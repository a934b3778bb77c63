# SPDX-License-Identifier: Apache-2.0
"""Calls of the resident root helpers from a reactor: no thread waits, so a hung store blocks none.

The caller's deadline is sent with the call, and cancelling closes the connection: the helper then drops a
call that has not begun, and kills one that permits it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.rpc.core import frame, message
from systemvm.rpc.core.errors import INTERNAL, NOT_CONNECTED, RpcError
from systemvm.service.errors import SystemVmError
from systemvm.service.slowness import scaled_s
from systemvm.ssvm.helper_call import BEGUN_LINE, EXPIRES, PROGRESS_METHOD
from systemvm.wire.transfer_failure import TransferFailure

MAX_DESCRIPTORS = 4
#: Only lines with this are parsed twice.
_PROGRESS_MARK = PROGRESS_METHOD.encode()


async def call(
    reactor: Any,
    path: Path,
    method: str,
    params: Any,
    result: Any,
    timeout_s: float,
    on_progress: Callable[[Any], None] | None = None,
) -> tuple[Any, list[int]]:
    """Call a helper; return its result as the type `result`, and descriptors that the caller must close.

    `timeout_s` is that of ordinary hardware; it is scaled when the call begins. A helper that dies is called
    once more, as every operation can be repeated. Cancelling closes the connection. `on_progress` gets the
    parameters of each progress notification, and the timeout then begins anew.

    Raises: RpcError of the helper; NOT_CONNECTED when it cannot be reached; after the timeout `store_hangs`
        if the call had begun and `busy` otherwise; `worker_died` when the helper died twice.
    """
    expires_s = time.monotonic() + scaled_s(timeout_s)
    try:
        return await _call_once(reactor, path, method, params, result, expires_s, on_progress)
    except _DisconnectedError:
        pass
    try:
        return await _call_once(reactor, path, method, params, result, expires_s, on_progress)
    except _DisconnectedError:
        raise RpcError.refused(
            TransferFailure.WORKER_DIED,
            f"the process of {method} ended twice without a response",
            f'run "journalctl -u systemvm-{path.stem}" in the SSVM',
        ) from None


async def _call_once(
    reactor: Any,
    path: Path,
    method: str,
    params: Any,
    result: Any,
    expires_s: float,
    on_progress: Callable[[Any], None] | None,
) -> tuple[Any, list[int]]:
    request = message.Request(method, msgspec.to_builtins(params), 1, None).to_wire()
    request[EXPIRES] = expires_s
    left_s = max(0.0, expires_s - time.monotonic())
    overdue = False

    def progressed(progress: Any) -> None:
        if timer.active():
            timer.reset(left_s)
        if on_progress is not None:
            on_progress(progress)

    protocol = _CallProtocol(frame.encode(request), progressed)

    def expire() -> None:
        nonlocal overdue
        overdue = True
        running.cancel()

    running: Deferred[bytes] = Deferred.fromCoroutine(protocol.run(reactor, path))
    timer = reactor.callLater(left_s, expire)
    try:
        line = await running
        answer = message.read(frame.decode(line))
        if not isinstance(answer, message.Response):
            raise RpcError(INTERNAL, f"{path.name} sent something that is not a response")
        if answer.error is not None:
            raise answer.error
        return msgspec.convert(answer.result, type=result), protocol.take_descriptors()
    except CancelledError:
        if overdue:
            raise protocol.timeout_error(path.stem, method) from None
        raise
    except (ConnectError, OSError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = {"hint": f'run "systemctl status systemvm-{path.stem}.service"'}
        raise RpcError(NOT_CONNECTED, f"{path} cannot be reached: {why}", hint) from None
    finally:
        if timer.active():
            timer.cancel()
        protocol.end()


class _DisconnectedError(SystemVmError):
    """The connection ended without a response."""


@implementer(IFileDescriptorReceiver)
class _CallProtocol(Protocol):
    """One request and one response on a connection of their own."""

    def __init__(self, request: bytes, on_progress: Callable[[Any], None] = lambda progress: None) -> None:
        self._request = request
        self._on_progress = on_progress
        self._splitter = frame.LineSplitter()
        self._descriptors: list[int] = []
        self._ended = False
        self._has_begun = False
        self._answer: Deferred[bytes] = Deferred()

    async def run(self, reactor: Any, path: Path) -> bytes:
        """Connect, send the request, and wait for the line of the response."""
        await connectProtocol(UNIXClientEndpoint(reactor, os.fspath(path)), self)
        return await self._answer

    def take_descriptors(self) -> list[int]:
        """Return those that came with the response; the caller closes them."""
        taken, self._descriptors = self._descriptors, []
        return taken

    def timeout_error(self, helper: str, method: str) -> RpcError:
        """Return the error of a deadline that has passed."""
        if self._has_begun:
            return RpcError.refused(
                TransferFailure.STORE_HANGS,
                f"secondary storage did not answer {method} in time",
                "check the NFS server and the storage network; work continues once it answers",
            )
        return RpcError.refused(
            TransferFailure.BUSY,
            f"the {helper} helper did not begin {method} in time",
            "retry later",
        )

    def end(self) -> None:
        """Close the connection and the descriptors that were not taken."""
        self._ended = True
        for descriptor in self.take_descriptors():
            os.close(descriptor)
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    # Protocol

    def connectionMade(self) -> None:
        if self._ended:
            self.end()
        elif self.transport is not None:
            self.transport.write(self._request)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        if self._ended or len(self._descriptors) >= MAX_DESCRIPTORS:
            os.close(descriptor)
        else:
            self._descriptors.append(descriptor)

    def dataReceived(self, data: bytes) -> None:
        try:
            for line in self._splitter.feed(data):
                if line == BEGUN_LINE.rstrip():
                    self._has_begun = True
                elif _PROGRESS_MARK in line:
                    self._progress(line)
                else:
                    self._settle(line)
        except frame.LineTooLong as error:
            self._settle(Failure(RpcError(INTERNAL, f"response of the helper is too long: {error}")))

    def _progress(self, line: bytes) -> None:
        note = message.read(frame.decode(line))
        if isinstance(note, message.Request) and note.method == PROGRESS_METHOD:
            if not self._ended:
                self._on_progress(note.params)
        else:
            self._settle(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._settle(Failure(_DisconnectedError("the connection ended without an answer")))

    def _settle(self, outcome: bytes | Failure) -> None:
        if self._ended or self._answer.called:
            return
        if isinstance(outcome, Failure):
            self._answer.errback(outcome)
        else:
            self._answer.callback(outcome)
