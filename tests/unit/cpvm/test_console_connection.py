# SPDX-License-Identifier: Apache-2.0
"""One connection's life on a clock: pings, silence, stalls, closing, and leaving early."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from systemvm.cpvm.console_connection import CLOSE_DEADLINE_S, ConsoleConnection, OpenedTarget
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.rfb import ServerInit
from systemvm.cpvm.tls_transport import TlsTransport
from systemvm.cpvm.vnc_target import VncConnection
from systemvm.cpvm.websocket import close_frame

GREETING = b"\x82\x0cRFB 003.008\n"


class FakeReactor(Clock):
    """A clock that remembers which descriptors are watched."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard


class FakeBrowser:
    """Stands for the TLS transport: what was sent, and whether it takes more."""

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


class Lab:
    def __init__(self) -> None:
        self.reactor = FakeReactor()
        self.browser = FakeBrowser()
        self.reaching: Deferred[OpenedTarget] = Deferred()
        self.ended: list[str] = []
        self.screen, self.far_screen = socket.socketpair()
        self.screen.setblocking(False)
        self.far_screen.setblocking(False)
        self.connection = ConsoleConnection(
            self.reactor,
            cast(TlsTransport, self.browser),
            lambda _: self.reaching,
            lambda _, reason: self.ended.append(reason),
            "203.0.113.7",
        )
        self.connection.start()

    def reach(self, early: bytes = b"") -> None:
        dialed = VncConnection(self.screen, ServerInit(1, 1, bytes(16), "x"), early)
        self.reaching.callback(OpenedTarget("web", dialed))

    def flow(self) -> None:
        self.reach()
        for said in (b"RFB 003.008\n", b"\x01", b"\x01"):
            self.connection.received(masked(0x82, said))
        self.browser.sent.clear()

    def tick(self, seconds: int) -> None:
        for _ in range(seconds // 5):
            self.reactor.advance(5)
            self.connection.tick()


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.screen.close()
    lab.far_screen.close()


def masked(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


def test_the_rfb_handshake_begins_when_the_target_is_connected(lab: Lab) -> None:
    assert lab.browser.sent == []
    lab.reach()
    assert lab.browser.sent == [GREETING]
    assert not lab.reactor.readers  # pictures wait for the browser's handshake
    lab.connection.received(masked(0x82, b"RFB 003.008\n\x01\x01\x05rest"))
    assert lab.reactor.readers
    assert lab.far_screen.recv(10) == b"\x05rest"


def test_early_bytes_of_the_target_follow_its_server_init(lab: Lab) -> None:
    lab.reach(early=b"early")
    lab.connection.received(masked(0x82, b"RFB 003.008\n\x01\x01"))
    assert lab.browser.sent[-1].endswith(b"webearly")


def test_an_idle_connection_is_kept_alive(lab: Lab) -> None:
    lab.flow()
    lab.tick(30)
    assert lab.browser.sent == []
    lab.tick(10)
    assert lab.browser.sent == [b"\x89\x00"]
    lab.connection.received(masked(0x8A))
    lab.tick(90)
    assert not lab.browser.ended


def test_a_silent_browser_is_disconnected(lab: Lab) -> None:
    lab.flow()
    lab.tick(90)
    assert not lab.browser.ended
    lab.tick(5)
    assert lab.browser.ended == "aborted"
    lab.connection.lost(Failure(Exception()))
    assert lab.ended == ["the browser does not respond"]


def test_an_active_browser_is_not_pinged(lab: Lab) -> None:
    lab.flow()
    for _ in range(20):
        lab.tick(20)
        lab.connection.received(masked(0x82, b"k"))
    assert lab.browser.sent == []


def test_only_the_last_ping_is_answered_after_a_blocked_write(lab: Lab) -> None:
    lab.flow()
    lab.browser.is_blocked = True
    for number in range(50):
        lab.connection.received(masked(0x89, b"%02d" % number))
    lab.tick(60)
    assert lab.browser.sent == []
    lab.browser.is_blocked = False
    lab.connection.drained()
    assert lab.browser.sent == [b"\x8a\x0249"]


def test_the_target_is_not_read_while_the_browser_is_blocked(lab: Lab) -> None:
    lab.flow()
    [relay] = lab.reactor.readers
    lab.far_screen.send(b"picture")
    lab.browser.is_blocked = True
    relay.doRead()
    assert not lab.reactor.readers
    assert lab.browser.sent == []
    lab.browser.is_blocked = False
    lab.connection.drained()
    assert lab.reactor.readers == {relay}
    relay.doRead()
    assert lab.browser.sent == [b"\x82\x07picture"]


def test_a_closed_target_closes_the_browsers_side(lab: Lab) -> None:
    lab.flow()
    [relay] = lab.reactor.readers
    lab.far_screen.close()
    relay.doRead()
    gone = BrowserRefusal.SCREEN_CLOSED
    assert lab.browser.sent == [close_frame(gone.close_code, gone.title)]
    assert not lab.browser.ended
    lab.connection.received(masked(0x88, gone.close_code.to_bytes(2, "big")))
    assert lab.browser.ended == "lost"
    assert not lab.reactor.readers


@pytest.mark.parametrize(("is_blocked", "end"), [(False, "lost"), (True, "aborted")])
def test_a_browser_without_a_close_frame_is_disconnected_at_the_deadline(
    lab: Lab, is_blocked: bool, end: str
) -> None:
    lab.flow()
    lab.browser.is_blocked = is_blocked
    lab.connection.close(1001, "restart")
    lab.reactor.advance(CLOSE_DEADLINE_S - 0.1)
    assert not lab.browser.ended
    lab.reactor.advance(0.2)
    assert lab.browser.ended == end


def test_leaving_cancels_the_connection_to_the_target(lab: Lab) -> None:
    cancelled: list[bool] = []
    lab.reaching._canceller = lambda _: cancelled.append(True)
    lab.connection.lost(Failure(Exception()))
    assert cancelled == [True]
    assert lab.ended == ["the browser left"]
    assert lab.browser.sent == []
    assert not lab.reactor.getDelayedCalls()


def test_a_refusal_is_sent_as_a_close_frame(lab: Lab) -> None:
    lab.reaching.errback(ConsoleRefusedError(BrowserRefusal.MACHINE_STOPPED))
    assert lab.browser.sent == [close_frame(4409, "The virtual machine is not running")]


def test_data_before_the_rfb_handshake_is_a_protocol_error(lab: Lab) -> None:
    lab.connection.received(masked(0x89, b"hi"))
    assert lab.browser.sent == [b"\x8a\x02hi"]
    lab.connection.received(masked(0x82, b"RFB"))
    assert lab.browser.sent[-1] == close_frame(1002, "data before the server's RFB version")
    lab.connection.received(masked(0x89, b"hi"))
    assert len(lab.browser.sent) == 2
