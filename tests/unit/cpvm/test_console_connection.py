# SPDX-License-Identifier: Apache-2.0
"""One console connection: pings, silence, backpressure, close and early disconnects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.python.failure import Failure

from systemvm.cpvm.console_connection import (
    CLOSE_DEADLINE_S,
    MAX_EARLY_BYTES,
)
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.websocket import close_frame
from systemvm.wire.console import ConsoleKind
from unit.cpvm.connection_harness import Harness, masked

GREETING = b"\x82\x0cRFB 003.008\n"


@pytest.fixture
def harness() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.screen.close()
    harness.far_screen.close()


def test_the_rfb_handshake_begins_when_the_session_is_known(harness: Harness) -> None:
    assert harness.browser.sent == []
    harness.admit()
    assert harness.browser.sent == [GREETING]
    harness.connection.received(masked(0x82, b"RFB 003.008\n"))
    assert harness.browser.sent[1:] == [b"\x82\x06\x01\x01" + bytes(4)]
    harness.connection.received(masked(0x82, b"\x01"))
    harness.connection.received(masked(0x82, b"\x01"))
    assert len(harness.browser.sent) == 2
    harness.connect_target()
    assert [frame[-3:] for frame in harness.browser.sent[2:]] == [b"web"]
    assert harness.reactor.readers


def test_a_browser_whose_screen_is_connected_waits_for_one_answer(harness: Harness) -> None:
    harness.connect_target()
    harness.connection.received(masked(0x82, b"RFB 003.008\n"))
    [_, answer] = harness.browser.sent
    assert answer[2:8] == b"\x01\x01" + bytes(4) and answer.endswith(b"web")
    assert not harness.reactor.readers and not harness.connection.was_shown
    harness.connection.received(masked(0x82, b"\x01"))
    assert not harness.reactor.readers
    harness.connection.received(masked(0x82, b"\x01"))
    assert harness.reactor.readers and harness.connection.was_shown
    assert len(harness.browser.sent) == 2


def test_a_session_that_is_known_from_the_start_is_greeted_with_it() -> None:
    harness = Harness(starts=False)
    harness.admit()
    assert harness.browser.sent == []  # the response to the upgrade is not sent yet
    harness.connection.start()
    assert harness.browser.sent == [GREETING]


def test_a_serial_port_has_no_handshake(harness: Harness) -> None:
    harness.admit(ConsoleKind.SERIAL)
    assert harness.browser.sent == []
    harness.connection.received(masked(0x82, b"ls"))
    assert harness.browser.sent == [close_frame(1002, "data before the server's RFB version")]


def test_a_screen_that_is_refused_within_the_handshake_closes_it(harness: Harness) -> None:
    harness.admit()
    harness.connection.received(masked(0x82, b"RFB 003.008\n"))
    harness.opening.errback(ConsoleRefusedError(BrowserRefusal.MACHINE_STOPPED))
    assert harness.browser.sent[-1] == close_frame(4409, "The virtual machine is not running")


def test_little_is_kept_until_the_screen_is_connected(harness: Harness) -> None:
    harness.admit()
    harness.connection.received(masked(0x82, b"RFB 003.008\n\x01\x01"))
    for _ in range(MAX_EARLY_BYTES // 100):
        harness.connection.received(masked(0x82, bytes(100)))
    assert not harness.browser.sent[-1].startswith(b"\x88")
    harness.connection.received(masked(0x82, bytes(100)))
    assert harness.browser.sent[-1] == close_frame(1009, "too much data before the server's ServerInit")


def test_no_picture_passes_before_the_browsers_handshake(harness: Harness) -> None:
    harness.connect_target()
    assert harness.browser.sent == [GREETING]
    assert not harness.reactor.readers
    harness.connection.received(masked(0x82, b"RFB 003.008\n\x01\x01\x05rest"))
    assert harness.reactor.readers
    assert harness.far_screen.recv(10) == b"\x05rest"


def test_early_bytes_of_the_target_follow_its_server_init(harness: Harness) -> None:
    harness.connect_target(early=b"early")
    harness.connection.received(masked(0x82, b"RFB 003.008\n\x01\x01"))
    assert harness.browser.sent[-1].endswith(b"webearly")


def test_a_connection_has_no_dict_of_its_own(harness: Harness) -> None:
    """One of more than 30 attributes takes 1.5 kB."""
    assert not hasattr(harness.connection, "__dict__")


def test_an_idle_connection_is_kept_alive(harness: Harness) -> None:
    harness.complete_handshakes()
    harness.tick(30)
    assert harness.browser.sent == []
    harness.tick(10)
    assert harness.browser.sent == [b"\x89\x00"]
    harness.connection.received(masked(0x8A))
    harness.tick(90)
    assert not harness.browser.ended


def test_a_silent_browser_is_disconnected(harness: Harness) -> None:
    harness.complete_handshakes()
    harness.tick(90)
    assert not harness.browser.ended
    harness.tick(5)
    assert harness.browser.ended == "aborted"
    harness.connection.lost(Failure(Exception()))
    assert harness.ended == ["the browser does not respond"]


def test_an_active_browser_is_not_pinged(harness: Harness) -> None:
    harness.complete_handshakes()
    for _ in range(20):
        harness.tick(20)
        harness.connection.received(masked(0x82, b"k"))
    assert harness.browser.sent == []


def test_only_the_last_ping_is_answered_after_a_blocked_write(harness: Harness) -> None:
    harness.complete_handshakes()
    harness.browser.is_blocked = True
    for number in range(50):
        harness.connection.received(masked(0x89, b"%02d" % number))
    harness.tick(60)
    assert harness.browser.sent == []
    harness.browser.is_blocked = False
    harness.connection.drained()
    assert harness.browser.sent == [b"\x8a\x0249"]


def test_the_target_is_not_read_while_the_browser_is_blocked(harness: Harness) -> None:
    harness.complete_handshakes()
    [relay] = harness.reactor.readers
    harness.far_screen.send(b"picture")
    harness.browser.is_blocked = True
    relay.doRead()
    assert not harness.reactor.readers
    assert harness.browser.sent == []
    harness.browser.is_blocked = False
    harness.connection.drained()
    assert harness.reactor.readers == {relay}
    relay.doRead()
    assert harness.browser.sent == [b"\x82\x07picture"]


def test_a_closed_target_closes_the_browsers_side(harness: Harness) -> None:
    harness.complete_handshakes()
    [relay] = harness.reactor.readers
    harness.far_screen.close()
    relay.doRead()
    gone = BrowserRefusal.SCREEN_CLOSED
    assert harness.browser.sent == [close_frame(gone.close_code, gone.title)]
    assert not harness.browser.ended
    harness.connection.received(masked(0x88, gone.close_code.to_bytes(2, "big")))
    assert harness.browser.ended == "lost"
    assert not harness.reactor.readers


@pytest.mark.parametrize(("is_blocked", "end"), [(False, "lost"), (True, "aborted")])
def test_a_browser_without_a_close_frame_is_disconnected_at_the_deadline(
    harness: Harness, is_blocked: bool, end: str
) -> None:
    harness.complete_handshakes()
    harness.browser.is_blocked = is_blocked
    harness.connection.close(1001, "restart")
    harness.reactor.advance(CLOSE_DEADLINE_S - 0.1)
    assert not harness.browser.ended
    harness.reactor.advance(0.2)
    assert harness.browser.ended == end


def test_a_disconnect_cancels_the_connection_to_the_target(harness: Harness) -> None:
    cancelled: list[bool] = []
    harness.opening._canceller = lambda _: cancelled.append(True)
    harness.connection.lost(Failure(Exception()))
    assert cancelled == [True]
    assert harness.ended == ["the browser left"]
    assert harness.browser.sent == []
    assert not harness.reactor.getDelayedCalls()


def test_a_refusal_is_sent_as_a_close_frame(harness: Harness) -> None:
    harness.opening.errback(ConsoleRefusedError(BrowserRefusal.MACHINE_STOPPED))
    assert harness.browser.sent == [close_frame(4409, "The virtual machine is not running")]


def test_data_before_the_rfb_handshake_is_a_protocol_error(harness: Harness) -> None:
    harness.connection.received(masked(0x89, b"hi"))
    assert harness.browser.sent == [b"\x8a\x02hi"]
    harness.connection.received(masked(0x82, b"RFB"))
    assert harness.browser.sent[-1] == close_frame(1002, "data before the server's RFB version")
    harness.connection.received(masked(0x89, b"hi"))
    assert len(harness.browser.sent) == 2
