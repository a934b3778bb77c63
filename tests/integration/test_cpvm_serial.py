# SPDX-License-Identifier: Apache-2.0
"""Serial consoles in Chromium: xterm.js, the console in a process of its own, a real QEMU's serial port."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import asdict
from playwright.sync_api import Page, expect

from integration.cpvm_lab.chromium import Chromium
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.serial_machine import SerialMachine
from systemvm.wire.console import ConsolePolicy

pytestmark = pytest.mark.timeout(120)

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
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SerialMachine]:
    machine = SerialMachine(tmp_path_factory.mktemp("serial"))
    yield machine
    machine.close()


def issue(
    console: ConsoleProcess, machine: SerialMachine, history: str = "", policy: ConsolePolicy | None = None
) -> tuple[str, str]:
    token, session_id = console.issue(
        machine.port,
        kind="serial",
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
    console: ConsoleProcess, machine: SerialMachine, chromium: Chromium
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

    chromium.run(steps)
    assert console.calls_of("console.scrollback")


def test_two_browsers_share_the_port(
    console: ConsoleProcess, machine: SerialMachine, chromium: Chromium
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

    chromium.run(steps)


def test_a_stopped_machine_is_reported(console: ConsoleProcess, chromium: Chromium, tmp_path: Path) -> None:
    machine = SerialMachine(tmp_path)
    token, session_id = issue(console, machine)

    def steps(page: Page) -> None:
        visit(page, console, token)
        console.order("target", session_id=session_id, target={"refuse": "machine_stopped"})
        machine.close()
        expect(page.locator("body")).to_have_attribute("data-state", "waiting")

    try:
        chromium.run(steps)
    finally:
        machine.close()
