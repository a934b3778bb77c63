# SPDX-License-Identifier: Apache-2.0
"""What the console's page does with its window, in Chromium and Firefox: sizes, full screen, readability."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations
from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import Chromium
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.vnc_server import FakeVncServer, exactly

pytestmark = pytest.mark.timeout(240)

__all__ = ["browser"]  # a fixture

_PIXEL_FORMAT = bytes((32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0))
WIDTH, HEIGHT = 64, 48
#: Lengths of a viewer's messages after their type; those with a list have its length there.
_FIXED = {0: 19, 3: 9, 4: 7, 5: 5}


class TwoColours:
    """A protocol peer of a VNC server; `pressed` are the keysyms that reached it."""

    def __init__(self) -> None:
        self.pressed: list[int] = []
        self._server = FakeVncServer(self._serve)
        self.port = self._server.port
        self.close = self._server.close

    def _serve(self, viewer: socket.socket) -> None:
        for sent, length in ((b"RFB 003.008\n", 12), (b"\x01\x01", 1), (bytes(4), 1)):
            viewer.sendall(sent)
            exactly(viewer, length)
        viewer.sendall(_two(WIDTH, HEIGHT) + _PIXEL_FORMAT + bytes((0, 0, 0, 1)) + b"x")
        while True:
            kind = exactly(viewer, 1)[0]
            if kind == 2:  # SetEncodings
                exactly(viewer, 4 * int.from_bytes(exactly(viewer, 3)[1:], "big"))
            elif kind == 6:  # ClientCutText
                exactly(viewer, abs(int.from_bytes(exactly(viewer, 7)[3:], "big", signed=True)))
            else:
                body = exactly(viewer, _FIXED[kind])
                if kind == 4 and body[0]:
                    self.pressed.append(int.from_bytes(body[3:], "big"))
                elif kind == 3 and not body[0]:  # the whole screen
                    viewer.sendall(_picture(WIDTH, HEIGHT))


def _two(width: int, height: int) -> bytes:
    return width.to_bytes(2, "big") + height.to_bytes(2, "big")


def _picture(width: int, height: int) -> bytes:
    half = width * (height // 2)
    pixels = b"\0\0\xff\0" * half + b"\xff\0\0\0" * (width * height - half)
    return b"\0\0\0\x01" + bytes(4) + _two(width, height) + bytes(4) + pixels


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    yield console
    console.close()


@pytest.fixture
def screen() -> Iterator[TwoColours]:
    screen = TwoColours()
    yield screen
    screen.close()


def visit(page: Page, console: ConsoleProcess, screen: TwoColours) -> str:
    """Open the screen's console, and return the id of its session."""
    token, session_id = console.issue(screen.port, name="web-1")
    page.goto(f"{console.origin}/console?cmd=auth&token={token}")
    expect(page.locator("body")).to_have_attribute("data-state", "connected")
    return session_id


def test_full_screen_and_back(browser: Chromium, console: ConsoleProcess, screen: TwoColours) -> None:
    def steps(page: Page) -> None:
        visit(page, console, screen)
        page.click("#full")
        page.wait_for_function("() => document.fullscreenElement === document.documentElement")
        page.wait_for_function("() => document.activeElement === document.querySelector('#screen canvas')")
        page.keyboard.press("q")  # goes to the guest at once
        page.click("#full")
        page.wait_for_function("() => document.fullscreenElement === null")

    browser.run(steps)
    assert screen.pressed == [ord("q")]


def test_ctrl_alt_del_is_one_click(browser: Chromium, console: ConsoleProcess, screen: TwoColours) -> None:
    def steps(page: Page) -> None:
        visit(page, console, screen)
        page.click("#keys")
        page.keyboard.press("q")  # the screen has the focus again

    browser.run(steps)
    assert screen.pressed == [0xFFE3, 0xFFE9, 0xFFFF, ord("q")]  # Control, Alt, Delete


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_has_no_violation_of_wcag(
    browser: Chromium, console: ConsoleProcess, screen: TwoColours, theme: str
) -> None:
    def steps(page: Page) -> None:
        session_id = visit(page, console, screen)
        page.click("#preferences-button")
        page.select_option("#preferences [name=theme]", theme)
        page.select_option("#preferences [name=bar]", "always")
        assert violations(page) == []
        page.keyboard.press("Escape")
        for button, panel in (("key-menu", "key-menu"), ("clipboard", "clipboard"), ("power", "power")):
            page.click(f"#{button}-button")
            expect(page.locator(f"#{panel}")).to_be_visible()
            assert violations(page) == []
            page.keyboard.press("Escape")
        console.order("end", session_ids=[session_id], reason="the test ends it")
        expect(page.locator("#notice")).to_be_visible()
        assert violations(page) == []

    browser.run(steps)
