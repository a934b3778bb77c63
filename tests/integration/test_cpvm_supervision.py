# SPDX-License-Identifier: Apache-2.0
"""An administrator watches a session: real QEMU, two browsers, and programs made of sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
from attrs import asdict
from playwright.sync_api import Page, expect

from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import Chromium, pixels, wait_for_picture
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.fixtures import console
from integration.cpvm_lab.vnc_server import FakeVncServer, QemuVncServer, free_vnc_port, shake_hands
from integration.cpvm_lab.wire import Connection, open_console
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.management.consoles.supervision import WATCHING
from systemvm.service.slowness import scaled_s
from systemvm.wire.console import SessionLimits

pytestmark = pytest.mark.timeout(240)

__all__ = ["browser", "console"]  # fixtures

KEY = bytes([4, 1, 0, 0, 0, 0, 0, 65])
POINTER = bytes([5, 1, 0, 9, 0, 9])
CUT_TEXT = bytes([6, 0, 0, 0, 0, 0, 0, 2]) + b"hi"
REQUEST = bytes([3, 0]) + bytes(8)
BELL = b"\x02"
PIXELS = bytes([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])
CURSOR_BYTES = 3 * 9 * 16  # of one character in VGA's text mode
SERVER_INIT = bytes([2, 128, 1, 224]) + PIXELS + bytes([0, 0, 0, 1]) + b"n"


@pytest.fixture(autouse=True)
def _defaults(console: ConsoleProcess) -> Iterator[None]:
    yield
    console.order("configure", **asdict(SessionLimits()))


class Recorder:
    """A screen that rings its bell for what it receives, and remembers it by connection."""

    def __init__(self) -> None:
        self.received: list[bytearray] = []
        self.server = FakeVncServer(self._serve)

    def _serve(self, screen: socket.socket) -> None:
        received = bytearray()
        self.received.append(received)
        shake_hands(screen, SERVER_INIT)
        while data := screen.recv(65536):
            received += data
            screen.sendall(BELL)


def notice(connection: Connection) -> str:
    """Return the next message for the page, and skip the screen's frames."""
    while True:
        opcode, payload = connection.frame()
        if opcode == 1:
            return str(json.loads(payload)["notice"])
        assert opcode == 2, (opcode, payload)


def test_only_requests_for_the_screen_pass_and_the_user_is_told(console: ConsoleProcess) -> None:
    recorder = Recorder()
    screen = recorder.server
    token, session_id = console.issue(screen.port)
    user = open_console(console, token)
    user.greet()
    link, watching_id = console.issue(screen.port, policy=WATCHING, watches=session_id)
    watcher = open_console(console, link)
    watcher.greet()
    assert notice(user) == "watched"
    for message in (KEY, POINTER, CUT_TEXT, REQUEST):
        watcher.send_frame(2, message)
    assert watcher.data(1) == BELL
    user.send_frame(2, KEY)
    assert user.data(1) == BELL, "the user's session goes on"
    assert recorder.received == [KEY, REQUEST]
    watcher.close()
    assert notice(user) == "unwatched"
    untelling = asdict(SessionLimits()) | {"tells_watched": False, "warning_s": 0}
    console.order("configure", **untelling)
    again, _ = console.issue(screen.port, policy=WATCHING, watches=session_id)
    untold = open_console(console, again)
    untold.greet()
    user.send_frame(2, KEY)
    assert user.data(1) == BELL, "without a message before it"
    console.order("configure", **(untelling | {"idle_timeout_s": 0.1}))
    assert user.closing()[0] == BrowserRefusal.SESSION_IDLE.close_code
    assert untold.closing()[0] == BrowserRefusal.WATCHED_ENDED.close_code
    codes: dict[str, str] = {}
    while not codes.keys() >= {session_id, watching_id}:  # the test's own time limit ends it
        codes = {one["session"]: one["code"] for one in console.calls_of("console.closed")}
    assert codes[session_id] == "session_idle"
    assert codes[watching_id] == "watched_ended"
    late, _ = console.issue(screen.port, policy=WATCHING, watches=session_id)
    refused = Connection(console).spend(late)
    assert (refused.status, refused.json()["title"]) == (403, BrowserRefusal.WATCHED_ENDED.title)
    screen.close()


def test_a_program_is_watched_without_a_message(console: ConsoleProcess) -> None:
    """A VNC viewer expects nothing but RFB; its session is watched and ends as any other."""
    screen = Recorder().server
    token, session_id = console.issue(screen.port)
    program = Connection(console)
    program.upgrade(f"token={token}", Origin=None)
    program.greet()
    link, _ = console.issue(screen.port, policy=WATCHING, watches=session_id)
    watcher = open_console(console, link)
    watcher.greet()
    program.send_frame(2, KEY)
    assert program.data(1) == BELL
    program.close()
    assert watcher.closing()[0] == BrowserRefusal.WATCHED_ENDED.close_code
    screen.close()


def is_same(one: bytes, other: bytes) -> bool:
    """Return whether two pictures differ by no more than a blinking cursor."""
    if len(one) != len(other):
        return False
    changed = numpy.frombuffer(one, numpy.uint8) != numpy.frombuffer(other, numpy.uint8)
    return int(changed.sum()) <= CURSOR_BYTES


def common_picture(user: Page, watcher: Page, other_than: bytes = b"") -> bytes:
    """Wait until both show the same picture, which the firmware has finished; return its pixels."""
    before = b""
    for _ in range(round(scaled_s(150))):
        seen = wait_for_picture(user)
        if is_same(seen, before) and is_same(seen, pixels(watcher)) and not is_same(seen, other_than):
            return seen
        before = seen
        user.wait_for_timeout(300)
    raise AssertionError("the two screens stay different")


def test_two_browsers_show_the_same_screen_and_one_controls_it(
    console: ConsoleProcess, browser: Chromium
) -> None:
    screen = QemuVncServer(None, free_vnc_port())
    token, session_id = console.issue(screen.port, name="web-1")
    link, _ = console.issue(screen.port, name="web-1", policy=WATCHING, watches=session_id)

    def show(page: Page, token: str) -> None:
        page.goto(f"{console.origin}/console?cmd=auth&token={token}")
        expect(page.locator("body")).to_have_attribute("data-state", "connected")

    def tell(is_told: bool) -> Any:
        return console.order("configure", **(asdict(SessionLimits()) | {"tells_watched": is_told}))

    def steps(user: Page) -> None:
        windows = user.context.browser
        assert windows is not None
        show(user, token)
        wait_for_picture(user)
        expect(user.locator("#watched")).to_be_hidden()
        watcher = windows.new_context(
            ignore_https_errors=True, viewport={"width": 1000, "height": 700}
        ).new_page()
        try:
            show(watcher, link)
            expect(user.locator("#watched")).to_have_text("An administrator is watching this console.")
            expect(user.locator("#watched")).to_be_visible()
            expect(watcher.locator("#policy")).to_contain_text("You watch another user's console")
            before = common_picture(user, watcher)
            watcher.locator("#screen canvas").click()
            watcher.keyboard.press("Escape")  # would open the firmware's boot menu
            tell(False)
            expect(user.locator("#watched")).to_be_hidden()
            assert is_same(pixels(user), before)
            tell(True)
            expect(user.locator("#watched")).to_be_visible()
            user.keyboard.press("Escape")
            common_picture(user, watcher, before)
            console.order("end", session_ids=[session_id], reason="enough")
            expect(user.locator("body")).to_have_attribute("data-state", "closed")
            title = watcher.locator("#notice-title")
            expect(title).to_have_text(BrowserRefusal.WATCHED_ENDED.title)
        finally:
            watcher.context.close()

    try:
        browser.run(steps)
    finally:
        screen.close()
