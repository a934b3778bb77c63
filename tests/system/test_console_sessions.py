# SPDX-License-Identifier: Apache-2.0
"""Consoles on booted machines beyond screens: serial ports, recordings, supervision, restarts, drains."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocket, expect, sync_playwright

from booted_cloud import BootedCloud, wait_for
from console_page import CHROMIUM, log_in, new_context, open_section, scaled_ms, wait_colour, wait_screen
from systemvm.lab.namespaces import inside
from systemvm.service.slowness import scaled_s

pytestmark = pytest.mark.cloud

NAME = "sessions"
ROWS = "#screen .xterm-rows"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    # the lab's public CA is not in the browser's store; test_public_endpoints.py tests certificates
    context = new_context(browser, ignore_https_errors=True, viewport={"width": 1000, "height": 700})
    yield context
    context.close()


@pytest.fixture(scope="module")
def machine(cloud: BootedCloud) -> Iterator[dict[str, Any]]:
    row = cloud.register("sessions-tiny", f"{cloud.plan.source_url}/tiny.qcow2")
    assert cloud.wait_settled(row["id"])["isready"]
    cloud.cli("vm", "deploy", NAME, "--template", "sessions-tiny")
    found = next(vm for vm in cloud.cli_json("vm", "list") if vm["displayname"] == NAME)
    serial_log = cloud.plan.layout.logs / f"{found['instancename']}.log"
    # the last that it says by itself, which would come between the characters that a test types
    wait_for("the guest's report", lambda: "no password" in serial_log.read_text(errors="replace"))
    yield found
    cloud.cli("vm", "destroy", NAME, "--yes")


def open_console(cloud: BootedCloud, context: BrowserContext, name: str = NAME, *options: str) -> Page:
    page = context.new_page()
    page.goto(cloud.cli("console", "open", name, *options).stdout.strip())
    expect_state(page, "connected")
    return page


def open_serial(cloud: BootedCloud, context: BrowserContext, name: str = NAME) -> Page:
    return open_console(cloud, context, name, "--kind", "serial")


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-state", state, timeout=scaled_ms(60.0))


def session_of(page: Page) -> str:
    found: str = page.evaluate("JSON.parse(sessionStorage.getItem('console')).id")
    return found


def expect_output(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.locator(ROWS)).to_contain_text(text, timeout=scaled_ms(60.0))


def shell(page: Page, command: str) -> None:
    """Type a command into the shell at a serial port."""
    page.get_by_role("textbox", name="Input to the serial port").focus()
    page.keyboard.type(f"{command}\n", delay=30)


def test_the_serial_port_of_a_vm_is_a_shell(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    page = open_serial(cloud, context)
    expect_output(page, "tiny guest is up")  # what it wrote before
    expect_output(page, "tiny #")
    shell(page, "echo $((6 * 7)) is it")
    expect_output(page, "42 is it")
    page.set_viewport_size({"width": 800, "height": 500})
    page.get_by_role("button", name="Tell size").click()
    expect_output(page, re.compile(r"stty rows \d+ cols \d+"))
    rows, columns = re.findall(r"stty rows (\d+) cols (\d+)", page.locator(ROWS).inner_text())[-1]
    shell(page, "stty size")
    expect_output(page, f"{rows} {columns}")
    assert int(columns) < 100, "it fits the smaller window"


def test_the_serial_port_of_the_cpvm_carries_text(cloud: BootedCloud, context: BrowserContext) -> None:
    """It has no login prompt: operators enter by ssh. The CPVM carries the console of itself."""
    name = cloud.wait_up("consoleproxy")["name"]
    page = open_serial(cloud, context, name)
    cloud.ssh(name, "echo from the guest > /dev/ttyS0")
    expect_output(page, "from the guest")
    received: list[str] = []
    # open from before it says so: what comes to a port that nobody has open is lost
    reading = "(stty -echo; echo waiting > /dev/ttyS0; head -n 1) < /dev/ttyS0"
    reader = threading.Thread(target=lambda: received.append(cloud.ssh(name, reading)))
    reader.start()
    expect_output(page, "waiting")
    shell(page, "from the browser")
    reader.join()
    assert received == ["from the browser\n"]


def test_a_recording_is_on_secondary_storage_and_played_by_the_page(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    stored_before = cloud.store_files()
    cloud.cli("console", "record", NAME, "on")
    try:
        console = open_console(cloud, context)
        expect(console.locator("#policy")).to_have_text("Recorded")
        wait_screen(console)
        console.locator("#screen canvas").click()
        console.keyboard.type("screen red\n", delay=60)
        wait_colour(console, "red")
    finally:
        cloud.cli("console", "record", NAME, "inherit")
    cloud.cli("console", "close", session_of(console))

    def complete() -> list[Any]:
        rows = cloud.cli_json("console", "recordings", "--vm", NAME)
        return [row for row in rows if row["state"] == "Complete"]

    [row] = wait_for("a complete recording", complete)
    [stored] = cloud.store_files() - stored_before
    assert row["id"] in stored
    assert (cloud.plan.secondary / stored).stat().st_size == row["size"]
    page = context.new_page()
    log_in(page, cloud.plan.page_url, cloud.lab.login)
    open_section(page, "Virtual machines")
    page.get_by_role("link", name="Recordings").click()
    page.locator("#list").get_by_role("button", name=NAME).click()
    page.select_option("#speed", "64")
    page.wait_for_function(
        """() => {
            const canvas = document.querySelector("#picture");
            const [red, green, blue] = canvas.getContext("2d").getImageData(300, 300, 1, 1).data;
            return red > 100 && green < 60 && blue < 60;
        }""",
        timeout=scaled_ms(60.0),
    )
    expect(page.locator("body")).to_have_attribute("data-player", "paused", timeout=scaled_ms(60.0))
    cloud.cli("console", "delete-recording", row["id"])
    wait_for("the store without it", lambda: cloud.store_files() == stored_before)


def test_an_administrator_watches_a_console_and_ends_it(
    cloud: BootedCloud, machine: dict[str, Any], browser: Browser, context: BrowserContext
) -> None:
    user = open_console(cloud, context)
    wait_screen(user)
    session_id = session_of(user)
    windows = new_context(browser, ignore_https_errors=True)
    watcher = windows.new_page()
    watcher.goto(cloud.cli("console", "watch", session_id).stdout.strip())
    wait_screen(watcher)
    expect(watcher.locator("#policy")).to_contain_text("You watch another user's console")
    expect(user.locator("#watched")).to_have_text("An administrator is watching this console.")
    watcher.locator("#screen canvas").click()
    watcher.keyboard.type("screen green\n", delay=60)  # passes nothing
    user.locator("#screen canvas").click()
    user.keyboard.type("screen blue\n", delay=60)
    wait_colour(user, "blue")
    wait_colour(watcher, "blue")
    cloud.cli("console", "close", session_id)
    expect_state(user, "closed")
    expect(user.locator("#notice-title")).to_have_text(
        "This console was closed by its owner or an administrator"
    )
    expect_state(watcher, "closed")
    expect(watcher.locator("#notice-title")).to_have_text("The console that you watched has ended")
    windows.close()


def test_a_browser_that_leaves_ends_no_other_console(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    kept = context.new_page()
    sockets: list[object] = []

    def remember(socket: WebSocket) -> None:
        sockets.append(socket)

    kept.on("websocket", remember)
    kept.goto(cloud.cli("console", "open", NAME).stdout.strip())
    wait_screen(kept)
    own = {session_of(kept)}
    for _ in range(4):
        open_console(cloud, context, cloud.wait_up("secondarystoragevm")["name"]).close()
        wait_for("the end of the other", lambda: connected(cloud) == own)
    kept.locator("#screen canvas").click()
    kept.keyboard.type("screen green\n", delay=60)
    wait_colour(kept, "green")
    assert len(sockets) == 1, "its connection was never lost"


@contextmanager
def never_refused(cloud: BootedCloud, address: str) -> Iterator[None]:
    """Connect again and again to a CPVM's public port; fail when a connection is refused."""
    ended = threading.Event()

    def connect() -> int:
        count = 0
        while not ended.is_set():
            # a listening socket whose program is away accepts; one that does not exist refuses
            socket.create_connection((address, 8443), scaled_s(20.0)).close()
            count += 1
            # rarely: the restarted agent must accept what has queued before the browsers' connections
            ended.wait(0.5)
        return count

    outcome: list[int | BaseException] = []

    def run() -> None:
        try:
            outcome.append(inside(cloud.plan.host_namespace, connect))
        except OSError as refused:
            outcome.append(refused)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    [count] = outcome
    assert isinstance(count, int), count
    assert count > 1


def test_browsers_are_back_after_a_restart_of_the_agent_and_its_socket_never_refuses(
    cloud: BootedCloud,
    machine: dict[str, Any],
    context: BrowserContext,
    record_property: Callable[[str, object], None],
) -> None:
    cpvm = cloud.wait_up("consoleproxy")
    screen, serial = open_console(cloud, context), open_serial(cloud, context)
    wait_screen(screen)
    sessions = {session_of(screen), session_of(serial)}
    with never_refused(cloud, cpvm["publicip"]):
        cloud.ssh(cpvm["name"], "systemctl restart systemvm-agent")
        wait_for("both sessions", lambda: connected(cloud) >= sessions)
    for page in (screen, serial):
        expect_state(page, "connected")
    wait_screen(screen)
    shell(serial, "echo $((6 * 7)) again")
    expect_output(serial, "42 again")
    back_s = opened_after_s(cloud, cpvm["name"], sessions)
    assert back_s > 0
    record_property("browsers_back_s", round(back_s, 1))
    cloud.wait_up("consoleproxy")


def opened_after_s(cloud: BootedCloud, name: str, sessions: set[str]) -> float:
    """Return how long after the agent's last start its port got the last of the sessions back."""
    journal = cloud.ssh(name, "journalctl -b -u systemvm-agent -o json --no-pager --output-fields=MESSAGE")
    listened_us, opened_us = 0, dict.fromkeys(sessions, 0)
    for line in journal.splitlines():
        entry = json.loads(line)
        message, at_us = str(entry["MESSAGE"]), int(entry["__MONOTONIC_TIMESTAMP"])
        if message.startswith("ConsoleSite starting"):
            listened_us = at_us
        for session in sessions:
            if "opened the console" in message and session in message:
                opened_us[session] = at_us
    assert listened_us
    return (max(opened_us.values()) - listened_us) / 1e6


def connected(cloud: BootedCloud) -> set[str]:
    return {row["id"] for row in cloud.cli_json("console", "list") if row.get("connected")}


def test_screen_and_serial_port_follow_a_reboot(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    screen, serial = open_console(cloud, context), open_serial(cloud, context)
    wait_screen(screen)
    shell(serial, "echo $((6 * 7)) before")
    expect_output(serial, "42 before")
    cloud.cli("vm", "reboot", NAME, "--forced")
    for page in (screen, serial):
        expect_state(page, "connected")
    wait_colour(screen, "blue")

    def answers() -> bool:
        """Type again while the guest boots: what is shown until then is of before."""
        shell(serial, "echo $((6 * 7)) after")
        return "42 after" in serial.locator(ROWS).inner_text()

    wait_for("the shell after the reboot", answers, every_s=3.0)


def test_a_drained_cpvm_keeps_its_consoles_and_gets_no_new_one(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    name = cloud.wait_up("consoleproxy")["name"]
    page = open_console(cloud, context)
    cloud.cli("system-vm", "drain", name)
    try:
        refused = cloud.cli("console", "open", NAME, check=False)
        assert refused.returncode != 0
        assert "Console access will be ready in a few minutes" in refused.stderr
        page.reload()
        wait_screen(page)  # it takes back its own browsers
        cloud.cli("system-vm", "drain", name, "--timeout", "0")
        expect(page.locator("#notice-title")).to_have_text(
            "This console proxy is being shut down", timeout=scaled_ms(60.0)
        )
        expect_state(page, "closed")
    finally:
        cloud.cli("system-vm", "drain", name, "--cancel")
    wait_screen(open_console(cloud, context))


def test_metrics_are_for_the_management_network(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    vm = cloud.wait_up("consoleproxy")
    wait_screen(open_console(cloud, context))

    def read(address: str, timeout_s: float) -> str:
        def get() -> str:
            connection = http.client.HTTPConnection(address, 9180, timeout=timeout_s)
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

        return inside(cloud.plan.host_namespace, get)

    lines = read(vm["privateip"], scaled_s(20.0)).splitlines()
    [shown] = [line for line in lines if line.startswith("systemvm_console_connected_sessions ")]
    assert float(shown.split()[1]) >= 1
    for address in (vm["publicip"], vm["linklocalip"]):
        with pytest.raises(OSError):
            read(address, 3.0)  # is dropped; the image's tests scan all ports
