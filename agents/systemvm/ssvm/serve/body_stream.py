# SPDX-License-Identifier: Apache-2.0
"""The body of one request, read by a coroutine: the client is stopped while nobody reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from systemvm.service.errors import FailureCode, SystemVmError

#: A client that sends on behind an answer gets so long to read it before the connection ends.
LINGER_S = 5.0


class ClientGoneError(SystemVmError):
    """The connection is lost, or its client is too slow."""

    code = FailureCode.UNAVAILABLE


class BodyStream:
    """`received`, `completed` and `lost` come from the connection; `pause` and `resume` act on it."""

    def __init__(self, reactor: Any, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._reactor = reactor
        self._pause = pause
        self._resume = resume
        self._chunks: list[bytes] = []
        self._reader: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        self._gone = ""
        self._is_discarding = False
        self._on_complete: Callable[[], None] | None = None
        self.is_complete = False

    def received(self, data: bytes) -> None:
        if self._is_discarding:
            return
        self._chunks.append(data)
        if not self._wake():
            self._pause()

    def completed(self) -> None:
        self.is_complete = True
        self._wake()
        if self._on_complete is not None:
            self._on_complete()

    def when_complete(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once the body is complete, which it must not be yet."""
        self._on_complete = callback

    def lost(self, why: str = "connection lost") -> None:
        self._gone = self._gone or why
        self.set_deadline(None)
        self._wake()

    async def read(self) -> bytes:
        """Return what has come, as soon as there is anything; nothing at the end of the body.

        Raises: ClientGoneError when the body ends before that.
        """
        while not self._chunks:
            if self._gone:
                raise ClientGoneError(self._gone)
            if self.is_complete:
                return b""
            self._reader = Deferred()
            self._resume()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        return data

    def set_deadline(self, delay_s: float | None, why: str = "the client is too slow") -> None:
        """End the body when it is not complete by then; None removes the deadline."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None if delay_s is None else self._reactor.callLater(delay_s, self.lost, why)

    def linger(self, then: Callable[[], None]) -> None:
        """Discard the rest, for a while: a client that still sends would not see the answer otherwise."""
        self._chunks.clear()
        self._is_discarding = True
        if self.is_complete or self._gone:
            then()
            return

        def end() -> None:
            self._on_complete = None
            if timer.active():
                timer.cancel()
            then()

        timer: IDelayedCall = self._reactor.callLater(LINGER_S, end)
        self._on_complete = end
        self._resume()

    def _wake(self) -> bool:
        reader = self._reader
        if reader is None or reader.called:
            return False
        reader.callback(None)
        return True
