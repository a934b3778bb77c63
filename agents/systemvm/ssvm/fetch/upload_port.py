# SPDX-License-Identifier: Apache-2.0
"""Takes the calls of serve on /run/systemvm/upload.sock: a line, and then perhaps a body for a mover."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from systemvm.ssvm.upload_messages import MAX_LINE_BYTES, UploadAnswer, UploadCall, decode_call, encode

#: Carries out a call, and answers it on the connection.
Serve = Callable[[UploadCall, "BodyConnection"], Awaitable[None]]


class BodyConnection(LineReceiver):
    """One request of a client; `is_lost` says that it is gone, as long as nothing was accepted."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE_BYTES
    transport: Any
    _log = Logger(namespace="systemvm.ssvm.fetch.upload_port")

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._has_call = False
        self._on_lost: Callable[[], None] | None = None
        self.is_lost = False

    def lineReceived(self, line: bytes) -> None:
        if self._has_call:
            self.transport.abortConnection()
            return
        self._has_call = True
        try:
            call = decode_call(line)
        except ValueError as error:
            self._log.error("serve sent an invalid call: {error}", error=str(error))
            self.transport.abortConnection()
            return
        Deferred.fromCoroutine(self._run(call)).addErrback(self._failed)

    async def _run(self, call: UploadCall) -> None:
        await self._serve(call, self)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("a call of serve failed", failure=failure)
        self.transport.abortConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """Nothing is read in raw mode."""

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        self.is_lost = True
        if self._on_lost is not None:
            self._on_lost()

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        self._on_lost = callback

    def accept(self, answer: UploadAnswer) -> socket.socket:
        """Let serve send the body, and return the socket that a mover reads it from."""
        self._on_lost = None
        self.transport.pauseProducing()  # from here on the mover reads
        self.transport.write(encode(answer))
        handle: socket.socket = self.transport.getHandle()
        return handle.dup()

    def answer(self, answer: UploadAnswer) -> None:
        """Send the last answer."""
        self._on_lost = None
        if not self.is_lost:
            self.transport.write(encode(answer))
            self.transport.loseConnection()

    def break_off(self) -> None:
        """End the body for both ends: serve and mover notice it."""
        if not self.is_lost:
            self.transport.getHandle().shutdown(socket.SHUT_RD)


class UploadPort(Factory):
    """The factory of connections."""

    noisy = False

    def __init__(self, serve: Serve) -> None:
        self._serve = serve

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return BodyConnection(self._serve)
