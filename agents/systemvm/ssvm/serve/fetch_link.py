# SPDX-License-Identifier: Apache-2.0
"""One call of serve to fetch over /run/systemvm/upload.sock, and the body that follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import ClientCreator
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.ssvm.upload_messages import (
    END_OF_BODY,
    FRAME_HEADER,
    MAX_FRAME_BYTES,
    MAX_LINE_BYTES,
    UploadAnswer,
    UploadCall,
    decode_answer,
    encode,
)

CONNECT_TIMEOUT_S = 30.0


class FetchGoneError(SystemVmError):
    """fetch cannot be reached, or has ended without an answer."""

    code = FailureCode.UNAVAILABLE


@implementer(IPushProducer)
class FetchLink(LineReceiver):
    """Send a call, await its answer; after an accepted body, send frames and await the second answer."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE_BYTES
    transport: Any

    def __init__(self) -> None:
        self._answers: list[UploadAnswer] = []
        self._waiter: Deferred[None] | None = None  # for an answer
        self._writable: Deferred[None] | None = None  # while the socket is full
        self._is_lost = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    async def call(self, call: UploadCall) -> UploadAnswer:
        """Send the call, and return its answer.

        Raises: FetchGoneError when there is none.
        """
        self.transport.write(encode(call))
        return await self.answer()

    async def answer(self) -> UploadAnswer:
        """Return the next answer.

        Raises: FetchGoneError when there is none.
        """
        while not self._answers:
            if self._is_lost:
                raise FetchGoneError("fetch has ended without an answer")
            self._waiter = Deferred()
            await self._waiter
        return self._answers.pop(0)

    async def send(self, data: bytes) -> bool:
        """Send a part of the body when there is room; return whether anyone still takes it."""
        while self._writable is not None and not self._has_ended:
            await self._writable
        if self._has_ended:
            return False
        for start in range(0, len(data), MAX_FRAME_BYTES):
            piece = data[start : start + MAX_FRAME_BYTES]
            self.transport.writeSequence([FRAME_HEADER.pack(len(piece)), piece])
        return True

    def end_body(self) -> None:
        self.transport.write(END_OF_BODY)

    def close(self) -> None:
        """Break the call off; repeating it has no effect."""
        if not self._is_lost:
            self.transport.abortConnection()

    @property
    def _has_ended(self) -> bool:
        """Whether fetch has answered already, as the body ends here."""
        return self._is_lost or bool(self._answers)

    def lineReceived(self, line: bytes) -> None:
        try:
            self._answers.append(decode_answer(line))
        except ValueError:
            self.transport.abortConnection()
            return
        self._wake()

    def rawDataReceived(self, data: bytes) -> None:
        """Nothing is read in raw mode."""

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self._is_lost = True
        self._wake()

    # IPushProducer: of the transport's buffer

    def pauseProducing(self) -> None:
        if self._writable is None:
            self._writable = Deferred()

    def resumeProducing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None:
            writable.callback(None)

    def stopProducing(self) -> None:
        self.resumeProducing()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)
        self.resumeProducing()


async def connect(reactor: Any, path: Path) -> FetchLink:
    """Connect to fetch, which systemd starts at the first connection.

    Raises: FetchGoneError when nobody listens.
    """
    try:
        link: FetchLink = await ClientCreator(reactor, FetchLink).connectUNIX(
            str(path), timeout=CONNECT_TIMEOUT_S
        )
    except Exception as error:
        raise FetchGoneError(f"fetch cannot be reached: {error}") from None
    return link
