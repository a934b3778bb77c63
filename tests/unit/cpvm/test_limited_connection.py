# SPDX-License-Identifier: Apache-2.0
"""A console connection with a policy: what passes the filter, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from systemvm.cpvm.console_connection import OpenedTarget
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.cpvm.rfb import ServerInit
from systemvm.cpvm.target_stream import PlainStream
from systemvm.cpvm.vnc_target import VncConnection
from systemvm.cpvm.websocket import close_frame
from systemvm.wire.console import ConsolePolicy
from unit.cpvm.connection_harness import Harness, masked
from unit.cpvm.filter.rfb_samples import PIXEL_FORMAT

KEY = b"\x04\x01\0\0\0\0\0a"
REQUEST = b"\x03\x01" + bytes(8)


@pytest.fixture
def harness() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.screen.close()
    harness.far_screen.close()


def connect(harness: Harness, early: bytes, policy: ConsolePolicy) -> None:
    harness.admit()
    screen = VncConnection(PlainStream(harness.screen), ServerInit(1, 1, PIXEL_FORMAT, "x"), early)
    harness.opening.callback(OpenedTarget("web", screen, policy))


def complete_handshakes(harness: Harness, policy: ConsolePolicy) -> None:
    connect(harness, b"", policy)
    harness.connection.received(masked(0x82, b"RFB 003.008\n\x01\x01"))
    harness.browser.sent.clear()


def test_a_view_only_session_takes_no_input(harness: Harness) -> None:
    complete_handshakes(harness, ConsolePolicy(view_only=True))
    harness.connection.received(masked(0x82, KEY + REQUEST + KEY))
    assert harness.far_screen.recv(100) == REQUEST


def test_input_within_the_handshake_is_filtered_too(harness: Harness) -> None:
    connect(harness, b"", ConsolePolicy(view_only=True))
    harness.connection.received(masked(0x82, b"RFB 003.008\n\x01\x01" + KEY + REQUEST))
    assert harness.far_screen.recv(100) == REQUEST


def test_text_of_the_guest_does_not_reach_a_browser_that_may_not_have_it(harness: Harness) -> None:
    text = b"\x03\0\0\0\0\0\0\x06secret"
    connect(harness, text, ConsolePolicy(clipboard_from_guest=False))
    harness.connection.received(masked(0x82, b"RFB 003.008\n\x01\x01"))
    harness.far_screen.sendall(text + b"\x02" + text)
    for reader in set(harness.reactor.readers):
        reader.doRead()
    sent = b"".join(harness.browser.sent)
    assert b"secret" not in sent and sent.endswith(b"\x82\x01\x02")


def test_a_message_that_cannot_be_followed_ends_the_session(harness: Harness) -> None:
    complete_handshakes(harness, ConsolePolicy(view_only=True))
    harness.connection.received(masked(0x82, b"\x63" + KEY))
    [closing] = harness.browser.sent
    assert closing[:4] == b"\x88" + closing[1:2] + (1002).to_bytes(2, "big")
    assert harness.far_screen.recv(100) == b""  # nothing, and the screen is closed


def test_a_screen_that_cannot_be_followed_ends_the_session(harness: Harness) -> None:
    complete_handshakes(harness, ConsolePolicy(clipboard_from_guest=False))
    harness.far_screen.sendall(b"\x63")
    for reader in set(harness.reactor.readers):
        reader.doRead()
    refusal = BrowserRefusal.SCREEN_FAULTY
    assert harness.browser.sent == [close_frame(refusal.close_code, refusal.title)]
    assert not harness.reactor.readers


def test_a_strange_pixel_format_refuses_a_limited_session_only(harness: Harness) -> None:
    screen = ServerInit(1, 1, bytes(16), "x")
    limited = ConsolePolicy(clipboard_from_guest=False)
    harness.opening.callback(
        OpenedTarget("web", VncConnection(PlainStream(harness.screen), screen, b""), limited)
    )
    refusal = BrowserRefusal.SCREEN_FAULTY
    assert harness.browser.sent == [close_frame(refusal.close_code, refusal.title)]
    assert harness.screen.fileno() == -1
