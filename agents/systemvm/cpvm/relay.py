# SPDX-License-Identifier: Apache-2.0
"""Moves a screen's bytes into WebSocket frames, and a browser's bytes to its screen.

One buffer serves the whole process: bytes are received behind room for a frame's header, the header is
written in front, and one send hands the frame to TLS. What TLS does not take is copied out there and then,
and reading from that screen stops: a session that flows has no buffer, a stalled one has a single frame. The
other way, what the screen does not take is kept, and reading from the browser stops.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.cpvm.tls_transport import TlsServer
from systemvm.cpvm.websocket import HEADROOM_BYTES, write_binary_header

PAYLOAD_BYTES = 256 * 1024

_buffer = bytearray(HEADROOM_BYTES + PAYLOAD_BYTES)
_view = memoryview(_buffer)
_payload = _view[HEADROOM_BYTES:]


@implementer(IReadWriteDescriptor)
class Relay:
    """Between a connected screen and a browser's connection; `on_screen_closed` hears of the screen's end."""

    def __init__(
        self,
        reactor: Any,
        screen: socket.socket,
        browser: TlsServer,
        on_screen_closed: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._screen: socket.socket | None = screen
        self._browser = browser
        self._on_screen_closed = on_screen_closed
        self._unsent = b""  # for the screen
        self._flowing = False
        self._holding = False  # the browser is not read

    def start(self) -> None:
        """Pictures may flow from here on."""
        self._flowing = True
        self._look_for_pictures()

    def _look_for_pictures(self) -> None:
        if self._screen is not None and self._flowing and not self._browser.stalled:
            self._reactor.addReader(self)

    # -- from the screen

    def doRead(self) -> None:
        if self._screen is None:
            return
        if self._browser.stalled:  # a control frame did not go out since the last turn
            self._reactor.removeReader(self)
            return
        try:
            count = self._screen.recv_into(_payload)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self._screen_closed()
            return
        start = write_binary_header(_buffer, count)
        if not self._browser.send(_view[start : HEADROOM_BYTES + count]):
            self._reactor.removeReader(self)

    def browser_drained(self) -> None:
        self._look_for_pictures()

    # -- from the browser

    def write(self, data: bytes) -> None:
        """Bytes for the screen; when it does not take them the browser is not read until it does."""
        if self._screen is None:
            return
        self._unsent += data
        self._push()

    def doWrite(self) -> None:
        self._push()

    def _push(self) -> None:
        if self._screen is None:
            return
        try:
            sent = self._screen.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._screen_closed()
            return
        self._unsent = self._unsent[sent:]
        if self._unsent and not self._holding:
            self._holding = True
            self._browser.pauseProducing()
            self._reactor.addWriter(self)
        elif self._holding and not self._unsent:
            self._reactor.removeWriter(self)
            self._release()

    def _release(self) -> None:
        self._holding = False
        self._browser.resumeProducing()

    # -- the end

    def _screen_closed(self) -> None:
        self.close()
        self._on_screen_closed()

    def close(self) -> None:
        screen = self._screen
        if screen is None:
            return
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._screen = None
        self._unsent = b""
        screen.close()
        if self._holding:
            self._release()

    def fileno(self) -> int:
        return -1 if self._screen is None else self._screen.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw the socket break."""
        if self._screen is not None:
            self._screen_closed()

    def logPrefix(self) -> str:
        return "relay"
