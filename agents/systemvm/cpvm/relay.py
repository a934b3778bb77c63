# SPDX-License-Identifier: Apache-2.0
"""Moves bytes from a VNC server into WebSocket frames, and from the browser to the VNC server.

One buffer serves the whole process: bytes are received behind headroom for a frame's header, the header is
written in front of them, and one send passes the frame to TLS. A frame that TLS does not accept is copied at
once, and reading from that VNC server stops. So a session that flows has no buffer, and a blocked one has a
single frame. In the other direction bytes that the VNC server does not accept are buffered, and reading from
the browser stops. All of this is the same for a VNC server behind TLS or a WebSocket (`target_stream`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.cpvm.target_stream import TargetStream
from systemvm.cpvm.websocket import HEADROOM_BYTES, WebSocketError, write_binary_header
from systemvm.web.tls_transport import TlsTransport

PAYLOAD_BYTES = 256 * 1024

_buffer = bytearray(HEADROOM_BYTES + PAYLOAD_BYTES)
_view = memoryview(_buffer)
_payload = _view[HEADROOM_BYTES:]


def _nothing() -> None:
    """Stand for the callback of a relay that is closed."""


@implementer(IReadWriteDescriptor)
class Relay:
    """Relays between a VNC server and a browser; `on_target_closed` is called when the VNC server closes."""

    def __init__(
        self,
        reactor: Any,
        target: TargetStream,
        browser: TlsTransport,
        on_target_closed: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._target: TargetStream | None = target
        self._browser = browser
        self._on_target_closed = on_target_closed
        self._unsent = b""  # for the target
        self._flowing = False
        self._is_held = False
        self.sent_bytes = 0  # to the browser
        self._browser_paused = False
        self._read_pending_call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to relay bytes of the target to the browser."""
        self._flowing = True
        self._resume_reading()

    def hold(self) -> None:
        """Read nothing from the target until `go_on`."""
        self._is_held = True
        self._reactor.removeReader(self)

    def go_on(self) -> None:
        self._is_held = False
        self._resume_reading()

    def _resume_reading(self) -> None:
        if self._is_held:
            return
        if self._target is not None and self._flowing and not self._browser.is_blocked:
            self._reactor.addReader(self)
            self._schedule_pending_read(self._target)

    # -- from the target

    def _schedule_pending_read(self, target: TargetStream) -> None:
        """Read again soon what TLS has received already: the reactor does not see it."""
        if self._read_pending_call is None and not self._is_held and target.has_pending():
            self._read_pending_call = self._reactor.callLater(0, self._read_pending)

    def _read_pending(self) -> None:
        self._read_pending_call = None
        self.doRead()

    def doRead(self) -> None:
        if self._target is None:
            return
        if self._browser.is_blocked:  # a control frame was not sent completely since the last read
            self._reactor.removeReader(self)
            return
        try:
            count = self._target.read_into(_payload)
        except BlockingIOError:
            if self._target.reading_needs_write:
                self._reactor.addWriter(self)
            self._schedule_pending_read(self._target)  # a filter passed nothing of what was read
            return
        except (OSError, WebSocketError):
            count = 0
        if not count:
            self._target_closed()
            return
        self.sent_bytes += count
        start = write_binary_header(_buffer, count)
        if not self._browser.send(_view[start : HEADROOM_BYTES + count]):
            self._reactor.removeReader(self)
        elif self._target is not None:  # a browser that is lost while it is sent to closes the relay
            self._schedule_pending_read(self._target)

    def browser_drained(self) -> None:
        self._resume_reading()

    # -- from the browser

    def write(self, data: bytes) -> None:
        """Send bytes to the target; the browser is not read while the target does not accept them."""
        if self._target is None:
            return
        self._unsent = self._unsent + data if self._unsent else data
        self._flush()

    def doWrite(self) -> None:
        needs_write = self._target is not None and self._target.reading_needs_write
        self._flush()
        if needs_write:
            if not self._unsent:
                self._reactor.removeWriter(self)
            self.doRead()

    def _flush(self) -> None:
        if self._target is None:
            return
        try:
            while self._unsent:
                self._unsent = self._unsent[self._target.write(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._target_closed()
            return
        if self._unsent and not self._browser_paused:
            self._browser_paused = True
            self._browser.pauseProducing()
            self._reactor.addWriter(self)
        elif self._browser_paused and not self._unsent:
            self._reactor.removeWriter(self)
            self._resume_browser()

    def _resume_browser(self) -> None:
        self._browser_paused = False
        self._browser.resumeProducing()

    # -- the end

    def _target_closed(self) -> None:
        on_target_closed = self._on_target_closed
        self.close()
        on_target_closed()

    def close(self) -> None:
        target = self._target
        if target is None:
            return
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        if self._read_pending_call is not None:
            self._read_pending_call.cancel()
            self._read_pending_call = None
        self._target = None
        self._on_target_closed = _nothing  # so that both are freed at once, not by the garbage collector
        self._unsent = b""
        target.close()
        if self._browser_paused:
            self._resume_browser()

    def fileno(self) -> int:
        return -1 if self._target is None else self._target.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """Handle an error of the socket that the reactor found."""
        if self._target is not None:
            self._target_closed()

    def logPrefix(self) -> str:
        return "relay"
