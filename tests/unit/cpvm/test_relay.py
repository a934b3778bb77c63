# SPDX-License-Identifier: Apache-2.0
"""The relay and a VNC server behind TLS: bytes that the reactor cannot see, reads that wait for a write."""

from __future__ import annotations

from typing import cast

from systemvm.cpvm.relay import Relay
from systemvm.cpvm.websocket import CloseCode, WebSocketError, binary_frame
from systemvm.web.tls_transport import TlsTransport
from unit.cpvm.descriptor_clock import DescriptorClock


class Screen:
    """A stream with pieces to read; those after the first of each wake-up are pending."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.reading_needs_write = False
        self.accepts: int | None = None
        self.received = b""
        self.closed = False

    def fileno(self) -> int:
        return 7

    def read_into(self, buffer: memoryview) -> int:
        piece = self.pieces.pop(0) if self.pieces else BlockingIOError()
        if isinstance(piece, Exception):
            raise piece
        buffer[: len(piece)] = piece
        return len(piece)

    def has_pending(self) -> bool:
        return bool(self.pieces)

    def write(self, data: bytes) -> int:
        if self.accepts == 0:
            raise BlockingIOError
        taken = data if self.accepts is None else data[: self.accepts]
        self.received += taken
        self.accepts = None if self.accepts is None else 0
        return len(taken)

    def close(self) -> None:
        self.closed = True


class Browser:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_blocked = False
        self.paused = False

    def send(self, frame: memoryview) -> bool:
        self.sent.append(bytes(frame))
        return not self.is_blocked

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


class Setup:
    def __init__(self, *pieces: bytes | Exception) -> None:
        self.reactor, self.screen, self.browser = DescriptorClock(), Screen(*pieces), Browser()
        self.ended = 0
        self.relay = Relay(self.reactor, self.screen, cast(TlsTransport, self.browser), self._end)

    def _end(self) -> None:
        self.ended += 1


def test_pending_bytes_are_read_without_an_event() -> None:
    setup = Setup(b"one", b"two", b"three")
    setup.relay.start()
    for _ in range(4):
        setup.reactor.advance(0)
    assert setup.browser.sent == [binary_frame(piece) for piece in (b"one", b"two", b"three")]
    assert not setup.reactor.getDelayedCalls()


def test_a_browser_that_is_blocked_stops_pending_reads_too() -> None:
    setup = Setup(b"one", b"two")
    setup.browser.is_blocked = True
    setup.relay.start()
    assert not setup.reactor.readers
    assert not setup.reactor.getDelayedCalls()
    setup.browser.is_blocked = False
    setup.relay.browser_drained()
    assert setup.reactor.readers == {setup.relay}
    setup.reactor.advance(0)
    setup.reactor.advance(0)
    assert len(setup.browser.sent) == 2


def test_the_end_of_a_session_cancels_its_pending_read() -> None:
    setup = Setup(b"one", b"two")
    setup.relay.start()
    setup.relay.close()
    setup.reactor.advance(1)
    assert setup.browser.sent == []
    assert setup.screen.closed
    assert not setup.reactor.getDelayedCalls()


def test_a_read_that_needs_a_write_goes_on_when_the_socket_is_writable() -> None:
    setup = Setup(BlockingIOError(), b"after the key update")
    setup.screen.has_pending = lambda: False  # type: ignore[method-assign]
    setup.relay.start()
    setup.screen.reading_needs_write = True
    setup.relay.doRead()
    assert setup.reactor.writers == {setup.relay}
    setup.relay.doWrite()
    assert setup.browser.sent == [binary_frame(b"after the key update")]
    assert not setup.reactor.writers


def test_all_that_is_accepted_is_written_at_once() -> None:
    setup = Setup()
    setup.screen.accepts = 3
    setup.relay.write(b"keys and pointer")
    assert setup.browser.paused
    assert setup.reactor.writers == {setup.relay}
    setup.screen.accepts = None
    setup.relay.doWrite()
    assert setup.screen.received == b"keys and pointer"
    assert not setup.browser.paused
    assert not setup.reactor.writers


def test_a_broken_websocket_of_a_screen_is_its_end() -> None:
    for failure in (WebSocketError(CloseCode.PROTOCOL_ERROR, "masked"), ConnectionResetError(), b""):
        setup = Setup(failure)
        setup.relay.start()
        setup.relay.doRead()
        assert setup.ended == 1
        assert setup.screen.closed
