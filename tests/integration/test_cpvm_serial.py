# SPDX-License-Identifier: Apache-2.0
"""Serial consoles in Chromium and Firefox: xterm.js, a console in a process, a real QEMU's serial port."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import asdict
from playwright.sync_api import Page, expect

from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import UNWARNED, Chromium, passing
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.serial_machine import SerialMachine
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.service.slowness import scaled_s
from systemvm.wire.console import ConsolePolicy, SessionLimits

pytestmark = pytest.mark.timeout(240)

__all__ = ["browser"]  # a fixture

ROWS = "#screen .xterm-rows"
#: A program asks for the cursor's position and for the kind of terminal.
QUERIES = "\x1b[6n\x1b[c"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    yield console
    log = console.log()
    console.close()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SerialMachine]:
    machine = SerialMachine(tmp_path_factory.mktemp("serial"))
    yield machine
    machine.close()


def issue(
    console: ConsoleProcess,
    machine: SerialMachine,
    history: str = "",
    policy: ConsolePolicy | None = None,
    lifetime_s: float = 600,
) -> tuple[str, str]:
    token, session_id = console.issue(
        machine.port,
        kind="serial",
        lifetime_s=lifetime_s,
        policy=policy or ConsolePolicy(),
        transport_tls=asdict(machine.client()),
    )
    console.order("scrollback", session_id=session_id, text=history)
    return token, session_id


def visit(page: Page, console: ConsoleProcess, token: str) -> None:
    page.goto(f"{console.origin}/console?cmd=auth&token={token}")
    expect(page.locator("body")).to_have_attribute("data-state", "connected")


def press(page: Page, text: str) -> None:
    """Type, each key after the echo of the one before: the guest has no queue."""
    shown = page.locator(ROWS)
    for key in text:
        before = (shown.text_content() or "").rstrip()
        page.keyboard.press(key)
        expect(shown).to_have_text(re.compile(re.escape(before[-20:] + key) + r"\s*$"))


def test_a_serial_console_echoes_scrolls_back_and_reconnects(
    console: ConsoleProcess, machine: SerialMachine, browser: Chromium
) -> None:
    history = f"{QUERIES}\x1b[38;2;255;0;0mred\x1b[0m of before\r\n" + "line\r\n" * 100
    token, session_id = issue(console, machine, history)

    def steps(page: Page) -> None:
        visit(page, console, token)
        assert page.title() == "web-1 – console"
        expect(page.get_by_role("textbox", name="Input to the serial port of web-1")).to_be_focused()
        press(page, "ls")
        before = page.locator(ROWS).text_content() or ""
        assert "R" not in before.replace("line", ""), "queries of before are not answered into the guest"
        page.keyboard.press("Shift+PageUp")
        for _ in range(10):
            page.keyboard.press("Shift+PageUp")
        expect(page.locator(ROWS)).to_contain_text("red of before")
        red = page.locator(ROWS).get_by_text("red", exact=True)
        assert "rgb(" in (red.evaluate("node => node.style.color") or ""), (
            "true colours pass the page's policy"
        )
        console.order("scrollback", session_id=session_id, text=f"{history}ls")  # as the log has it now
        page.reload()
        expect(page.locator("body")).to_have_attribute("data-state", "connected")
        expect(page.locator(ROWS)).to_contain_text("linels")
        press(page, "x")

    browser.run(steps)
    assert console.calls_of("console.scrollback")


def test_two_browsers_share_the_port(
    console: ConsoleProcess, machine: SerialMachine, browser: Chromium
) -> None:
    first, _ = issue(console, machine)
    second, _ = issue(console, machine, policy=ConsolePolicy(view_only=True))

    def steps(page: Page) -> None:
        visit(page, console, first)
        other = page.context.new_page()
        visit(other, console, second)
        expect(other.locator("#policy")).to_have_text("View only")
        other.keyboard.press("z")
        page.bring_to_front()
        press(page, "ab")
        expect(other.locator(ROWS)).to_contain_text("ab")
        assert "z" not in (other.locator(ROWS).text_content() or ""), "a view-only console types nothing"

    browser.run(steps)


def test_text_is_copied_from_the_terminal_and_pasted_into_it(
    console: ConsoleProcess, machine: SerialMachine, browser: Chromium
) -> None:
    token, _ = issue(console, machine, "root password: 7Kq\r\n")
    forbidden, _ = issue(console, machine, policy=ConsolePolicy(False, False, False))

    def steps(page: Page) -> None:
        if browser.asks_for_the_clipboard:
            page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=console.origin)
        visit(page, console, token)
        tools = page.get_by_role("toolbar", name="Terminal")
        box = page.locator(f"{ROWS} > div", has_text="root password").bounding_box()
        assert box is not None
        height = box["y"] + box["height"] / 2
        # by dragging: WebDriver's clicks are never counted as a double or triple one in Firefox
        page.mouse.move(box["x"] + 1, height)
        page.mouse.down()
        page.mouse.move(box["x"] + 400, height, steps=5)
        page.mouse.up()
        tools.get_by_role("button", name="Copy").click()
        tools.get_by_role("button", name="Paste").click()
        expect(page.locator(ROWS)).to_have_text(re.compile(r"root password: 7Kq\s*root password: 7Kq\s*$"))
        press(page, "q")  # the terminal has the focus again
        visit(page, console, forbidden)
        expect(tools.get_by_role("button", name="Larger")).to_be_visible()
        for name in ("Copy", "Paste"):
            expect(tools.get_by_role("button", name=name)).to_have_count(0)

    browser.run(steps)


def test_a_stopped_machine_is_reported(console: ConsoleProcess, browser: Chromium, tmp_path: Path) -> None:
    machine = SerialMachine(tmp_path)
    token, session_id = issue(console, machine)

    def steps(page: Page) -> None:
        visit(page, console, token)
        console.order("target", session_id=session_id, target={"refuse": "machine_stopped"})
        machine.close()
        expect(page.locator("body")).to_have_attribute("data-state", "waiting")

    try:
        browser.run(steps)
    finally:
        machine.close()


def test_a_console_follows_its_serial_port(
    console: ConsoleProcess, machine: SerialMachine, browser: Chromium, tmp_path: Path
) -> None:
    moved = SerialMachine(tmp_path)
    token, session_id = issue(console, machine)
    place = {"virtual_machine_id": f"vm-{session_id}", "host": "127.0.0.1", "port": 5900}

    def steps(page: Page) -> None:
        visit(page, console, token)
        press(page, "a")
        asked = len(console.calls_of("console.target"))
        console.order("retarget", **place, serial_port=machine.port)  # its screen moves, not its port
        press(page, "b")
        target = {"host": "127.0.0.1", "port": moved.port, "password": None, "kind": "serial"}
        target |= {"transport_tls": asdict(moved.client())}
        console.order("target", session_id=session_id, target=target)
        console.order("scrollback", session_id=session_id, text="the other one\r\n")
        console.order("retarget", **place, serial_port=moved.port)
        expect(page.locator(ROWS)).to_contain_text("the other one")  # without a click
        press(page, "c")
        assert len(console.calls_of("console.target")) == asked + 1

    try:
        browser.run(steps)
        for each, typed in ((moved, b"c"), (machine, b"ab")):
            while not each.written().endswith(typed):  # a log is written after the connection
                time.sleep(0.05)
    finally:
        moved.close()


def test_times_of_the_zone_hold_for_serial_consoles(
    console: ConsoleProcess, machine: SerialMachine, browser: Chromium
) -> None:
    """The echo of the guest is no use of a console; a key is, and so is the page's button."""
    token, session_id = issue(console, machine)
    lifetime_s = 20  # from its page's first connection
    short, short_id = issue(console, machine, lifetime_s=lifetime_s)

    def configure(**values: float) -> None:
        console.order("configure", **(asdict(SessionLimits()) | values))

    def ended(page: Page, refusal: BrowserRefusal) -> None:
        late_ms = 1000 * (lifetime_s + scaled_s(30))
        expect(page.locator("body")).to_have_attribute("data-state", "closed", timeout=late_ms)
        expect(page.locator("#notice-title")).to_have_text(refusal.title)
        expect(page.locator("#warning")).to_be_hidden()

    def steps(page: Page) -> None:
        visit(page, console, token)
        configure(idle_timeout_s=120, warning_s=119)
        for use in (lambda: press(page, "a"), lambda: page.click("#stay")):
            expect(page.locator("#warning")).to_be_visible()
            expect(page.locator("#warning-text")).to_contain_text("because it is not used")
            with passing(page, UNWARNED):
                use()
        configure(idle_timeout_s=1, warning_s=0)
        ended(page, BrowserRefusal.SESSION_IDLE)
        configure(warning_s=3600)
        visit(page, console, short)
        expect(page.locator("#warning-text")).to_contain_text("because the time of this session is over")
        press(page, "b")
        expect(page.locator("#warning")).to_be_visible()
        ended(page, BrowserRefusal.SESSION_OVER)

    try:
        browser.run(steps)
    finally:
        configure()
    codes: dict[str, str] = {}
    while not codes.keys() >= {session_id, short_id}:  # the test's own time limit ends it
        codes = {one["session"]: one["code"] for one in console.calls_of("console.closed")}
    assert (codes[session_id], codes[short_id]) == ("session_idle", "session_over")
