# SPDX-License-Identifier: Apache-2.0
"""One viewer's life on a clock: pings, silence, stalls, closing, and leaving early."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from systemvm.cpvm.console_connection import CLOSE_DEADLINE_S, ReachedScreen, Viewer
from systemvm.cpvm.refusal import Refusal, RefusedError
from systemvm.cpvm.rfb import ServerInit
from systemvm.cpvm.tls_transport import TlsServer
from systemvm.cpvm.vnc_target import DialedScreen
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
        self.stalled = False
        self.ended = ""
        self.paused = False

    def send(self, frame: bytes | memoryview) -> bool:
        self.sent.append(bytes(frame))
        return not self.stalled

    def own(self, owner: str) -> None:
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
        self.reaching: Deferred[ReachedScreen] = Deferred()
        self.ended: list[str] = []
        self.screen, self.far_screen = socket.socketpair()
        self.screen.setblocking(False)
        self.far_screen.setblocking(False)
        self.viewer = Viewer(
            self.reactor,
            cast(TlsServer, self.browser),
            lambda _: self.reaching,
            lambda _, reason: self.ended.append(reason),
            "203.0.113.7",
        )
        self.viewer.start()

    def reach(self, early: bytes = b"") -> None:
        dialed = DialedScreen(self.screen, ServerInit(1, 1, bytes(16), "x"), early)
        self.reaching.callback(ReachedScreen("web", dialed))

    def flow(self) -> None:
        self.reach()
        for said in (b"RFB 003.008\n", b"\x01", b"\x01"):
            self.viewer.received(masked(0x82, said))
        self.browser.sent.clear()

    def tick(self, seconds: int) -> None:
        for _ in range(seconds // 5):
            self.reactor.advance(5)
            self.viewer.tick()


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.screen.close()
    lab.far_screen.close()


def masked(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


def test_the_browser_is_greeted_when_the_screen_is_reached(lab: Lab) -> None:
    assert lab.browser.sent == []
    lab.reach()
    assert lab.browser.sent == [GREETING]
    assert not lab.reactor.readers  # pictures wait for the browser's handshake
    lab.viewer.received(masked(0x82, b"RFB 003.008\n\x01\x01\x05rest"))
    assert lab.reactor.readers
    assert lab.far_screen.recv(10) == b"\x05rest"


def test_what_the_screen_says_early_comes_behind_its_server_init(lab: Lab) -> None:
    lab.reach(early=b"early")
    lab.viewer.received(masked(0x82, b"RFB 003.008\n\x01\x01"))
    assert lab.browser.sent[-1].endswith(b"webearly")


def test_an_idle_connection_is_kept_alive(lab: Lab) -> None:
    lab.flow()
    lab.tick(30)
    assert lab.browser.sent == []
    lab.tick(10)
    assert lab.browser.sent == [b"\x89\x00"]
    lab.viewer.received(masked(0x8A))
    lab.tick(90)
    assert not lab.browser.ended


def test_a_silent_browser_is_let_go(lab: Lab) -> None:
    lab.flow()
    lab.tick(90)
    assert not lab.browser.ended
    lab.tick(5)
    assert lab.browser.ended == "aborted"
    lab.viewer.lost(Failure(Exception()))
    assert lab.ended == ["the browser fell silent"]


def test_a_browser_that_is_heard_is_not_pinged(lab: Lab) -> None:
    lab.flow()
    for _ in range(20):
        lab.tick(20)
        lab.viewer.received(masked(0x82, b"k"))
    assert lab.browser.sent == []


def test_only_the_last_ping_is_answered_after_a_stall(lab: Lab) -> None:
    lab.flow()
    lab.browser.stalled = True
    for number in range(50):
        lab.viewer.received(masked(0x89, b"%02d" % number))
    lab.tick(60)
    assert lab.browser.sent == []
    lab.browser.stalled = False
    lab.viewer.drained()
    assert lab.browser.sent == [b"\x8a\x0249"]


def test_pictures_wait_while_the_browser_is_stalled(lab: Lab) -> None:
    lab.flow()
    [relay] = lab.reactor.readers
    lab.far_screen.send(b"picture")
    lab.browser.stalled = True
    relay.doRead()
    assert not lab.reactor.readers
    assert lab.browser.sent == []
    lab.browser.stalled = False
    lab.viewer.drained()
    assert lab.reactor.readers == {relay}
    relay.doRead()
    assert lab.browser.sent == [b"\x82\x07picture"]


def test_the_screens_end_is_told_and_the_browsers_word_awaited(lab: Lab) -> None:
    lab.flow()
    [relay] = lab.reactor.readers
    lab.far_screen.close()
    relay.doRead()
    gone = Refusal.SCREEN_CLOSED
    assert lab.browser.sent == [close_frame(gone.close_code, gone.title)]
    assert not lab.browser.ended
    lab.viewer.received(masked(0x88, gone.close_code.to_bytes(2, "big")))
    assert lab.browser.ended == "lost"
    assert not lab.reactor.readers


@pytest.mark.parametrize(("stalled", "end"), [(False, "lost"), (True, "aborted")])
def test_a_browser_that_does_not_say_goodbye(lab: Lab, stalled: bool, end: str) -> None:
    lab.flow()
    lab.browser.stalled = stalled
    lab.viewer.close(1001, "restart")
    lab.reactor.advance(CLOSE_DEADLINE_S - 0.1)
    assert not lab.browser.ended
    lab.reactor.advance(0.2)
    assert lab.browser.ended == end


def test_leaving_while_the_screen_is_looked_for(lab: Lab) -> None:
    cancelled: list[bool] = []
    lab.reaching._canceller = lambda _: cancelled.append(True)  # type: ignore[assignment]
    lab.viewer.lost(Failure(Exception()))
    assert cancelled == [True]
    assert lab.ended == ["the browser left"]
    assert lab.browser.sent == []
    assert not lab.reactor.getDelayedCalls()


def test_a_refusal_is_told(lab: Lab) -> None:
    lab.reaching.errback(RefusedError(Refusal.MACHINE_STOPPED))
    assert lab.browser.sent == [close_frame(4409, "The virtual machine is not running")]


def test_words_before_the_greeting(lab: Lab) -> None:
    lab.viewer.received(masked(0x89, b"hi"))
    assert lab.browser.sent == [b"\x8a\x02hi"]
    lab.viewer.received(masked(0x82, b"RFB"))
    assert lab.browser.sent[-1] == close_frame(1002, "the console speaks first")
    lab.viewer.received(masked(0x89, b"hi"))
    assert len(lab.browser.sent) == 2
