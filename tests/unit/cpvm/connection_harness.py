# SPDX-License-Identifier: Apache-2.0
"""A console connection with fakes of its browser and its target."""

from __future__ import annotations

import socket
from typing import cast

from twisted.internet.defer import Deferred

from systemvm.cpvm.console_connection import (
    ConsoleConnection,
    OpenedTarget,
)
from systemvm.cpvm.rfb import ServerInit
from systemvm.cpvm.target_stream import PlainStream
from systemvm.cpvm.vnc_target import VncConnection
from systemvm.web.tls_transport import TlsTransport
from systemvm.wire.console import ConsoleKind, ConsoleSession
from unit.cpvm.descriptor_clock import DescriptorClock


class FakeBrowser:
    """A TLS transport that records what was sent and can be blocked."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_blocked = False
        self.ended = ""
        self.paused = False

    def send(self, frame: bytes | memoryview) -> bool:
        self.sent.append(bytes(frame))
        return not self.is_blocked

    def assign_owner(self, owner: str) -> None:
        self.owner = owner

    def loseConnection(self) -> None:
        self.ended = self.ended or "lost"

    def abortConnection(self) -> None:
        self.ended = self.ended or "aborted"

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


class Harness:
    def __init__(self, *, starts: bool = True) -> None:
        self.reactor = DescriptorClock()
        self.browser = FakeBrowser()
        self.opening: Deferred[OpenedTarget] = Deferred()
        self.ended: list[str] = []
        self.screen, self.far_screen = socket.socketpair()
        self.screen.setblocking(False)
        self.far_screen.setblocking(False)
        self.connection = ConsoleConnection(
            self.reactor,
            cast(TlsTransport, self.browser),
            lambda _: self.opening,
            lambda _, reason: self.ended.append(reason),
            "203.0.113.7",
        )
        if starts:
            self.connection.start()

    def admit(self, kind: ConsoleKind = ConsoleKind.SCREEN) -> None:
        self.connection.admit(ConsoleSession("s-1", "vm-1", "web", 600.0, kind=kind))

    def connect_target(self, early: bytes = b"") -> None:
        self.admit()
        dialed = VncConnection(PlainStream(self.screen), ServerInit(1, 1, bytes(16), "x"), early)
        self.opening.callback(OpenedTarget("web", dialed))

    def complete_handshakes(self) -> None:
        self.connect_target()
        for message in (b"RFB 003.008\n", b"\x01", b"\x01"):
            self.connection.received(masked(0x82, message))
        self.browser.sent.clear()

    def tick(self, seconds: int) -> None:
        for _ in range(seconds // 5):
            self.reactor.advance(5)
            self.connection.tick()


def masked(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload
