# SPDX-License-Identifier: Apache-2.0
"""What the console's page does with its window, in Chromium and Firefox: sizes, full screen, readability."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations
from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import Chromium, wait_for_picture
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.resizable_screen import ResizableScreen

pytestmark = pytest.mark.timeout(240)

__all__ = ["browser"]  # a fixture


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    yield console
    console.close()


@pytest.fixture
def screen() -> Iterator[ResizableScreen]:
    screen = ResizableScreen()
    yield screen
    screen.close()


def visit(page: Page, console: ConsoleProcess, screen: ResizableScreen) -> str:
    """Open the screen's console, and return the id of its session."""
    token, session_id = console.issue(screen.port, name="web-1")
    page.goto(f"{console.origin}/console?cmd=auth&token={token}")
    expect(page.locator("body")).to_have_attribute("data-state", "connected")
    return session_id


def test_the_guests_screen_takes_the_size_of_the_window(
    browser: Chromium, console: ConsoleProcess, screen: ResizableScreen
) -> None:
    fits = """() => {
        const canvas = document.querySelector("#screen canvas");
        const { width, height } = document.querySelector("#screen").getBoundingClientRect();
        return canvas.width === Math.floor(width) && canvas.height === Math.floor(height);
    }"""
    # later than what noVNC has delayed until now: it asks for a size at most every 100 ms
    settled = "() => new Promise((resolve) => setTimeout(resolve, 300))"

    def steps(page: Page) -> None:
        visit(page, console, screen)
        wait_for_picture(page)
        assert screen.asked == [], "the guest keeps its size until it is asked to change it"
        page.click("#preferences-button")
        page.select_option("#preferences [name=scale]", "resize")
        page.wait_for_function(fits)
        page.evaluate(settled)
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 720, "height": 540})
        page.wait_for_function("() => document.querySelector('#screen').clientWidth === 720")
        page.wait_for_function(fits)
        wait_for_picture(page)
        page.evaluate(settled)
        page.click("#keys")

    browser.run(steps)
    screen.pressed(3)  # and so has what the page asked for before
    widths = [width for width, _ in screen.asked]
    assert (widths[0], widths[-1]) == (1000, 720)
    assert all(one != other for one, other in pairwise(screen.asked)), "a size is asked for once"


def test_full_screen_and_back(browser: Chromium, console: ConsoleProcess, screen: ResizableScreen) -> None:
    def steps(page: Page) -> None:
        visit(page, console, screen)
        page.click("#full")
        page.wait_for_function("() => document.fullscreenElement === document.documentElement")
        page.wait_for_function("() => document.activeElement === document.querySelector('#screen canvas')")
        page.keyboard.press("q")  # goes to the guest at once
        page.click("#full")
        page.wait_for_function("() => document.fullscreenElement === null")

    browser.run(steps)
    assert screen.pressed(1) == [ord("q")]


def test_ctrl_alt_del_is_one_click(
    browser: Chromium, console: ConsoleProcess, screen: ResizableScreen
) -> None:
    def steps(page: Page) -> None:
        visit(page, console, screen)
        page.click("#keys")
        page.keyboard.press("q")  # the screen has the focus again

    browser.run(steps)
    assert screen.pressed(4) == [0xFFE3, 0xFFE9, 0xFFFF, ord("q")]  # Control, Alt, Delete


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_has_no_violation_of_wcag(
    browser: Chromium, console: ConsoleProcess, screen: ResizableScreen, theme: str
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
