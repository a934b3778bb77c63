# SPDX-License-Identifier: Apache-2.0
"""A real browser with stock noVNC, and a console that shows a real QEMU's screen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import asdict
from playwright.sync_api import Page, Route, expect

from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import INTERRUPTED, UNWARNED, Chromium, passing, wait_for_picture
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.vnc_server import QemuVncServer, free_vnc_port
from systemvm.wire.console import SessionLimits

pytestmark = pytest.mark.timeout(120)

__all__ = ["browser"]  # a fixture: what a console does by itself is the same in Firefox

PASSWORD = "s3cr3t8x"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    yield console
    console.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


@pytest.fixture
def screen() -> Iterator[QemuVncServer]:
    screen = QemuVncServer(PASSWORD, free_vnc_port())
    yield screen
    screen.close()


def visit(page: Page, console: ConsoleProcess, token: str, path: str = "/console?cmd=auth&token=") -> None:
    page.goto(f"{console.origin}{path}{token}")


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-state", state)


def test_picture_and_keys(console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium) -> None:
    token, _ = console.issue(screen.port, PASSWORD, name="web-1")

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")
        assert page.url == f"{console.origin}/console"
        assert page.title() == "web-1 – console"
        expect(page.locator("#name")).to_have_text("web-1")
        expect(page.locator("#state-text")).to_have_text("Connected")
        before = wait_for_picture(page)
        page.keyboard.press("Escape")  # SeaBIOS's boot menu
        after = wait_for_picture(page, before)
        page.keyboard.press("F8")
        page.click("#keys")  # Ctrl-Alt-Del restarts the machine, which closes the menu
        wait_for_picture(page, after)

    chromium.run(steps)
    for secret in (token, PASSWORD, "__Host-console-"):
        assert secret not in console.log()


def test_a_console_at_an_address_of_ipv6(browser: Chromium, screen: QemuVncServer, tmp_path: Path) -> None:
    """Its content policy cannot name the address, which `browser` would fail for: 'self' is enough."""
    listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    console = ConsoleProcess(tmp_path, set_up=False, listening=listening)
    try:
        origin = f"https://[::1]:{console.port}"
        console.set_up("::1", origin=origin)
        token, _ = console.issue(screen.port, PASSWORD)

        def steps(page: Page) -> None:
            page.goto(f"{origin}/console?cmd=auth&token={token}")
            expect_state(page, "connected")
            wait_for_picture(page)

        browser.run(steps)
    finally:
        console.close()


def test_cloudstacks_own_console_url_opens_it(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium
) -> None:
    token, _ = console.issue(screen.port, PASSWORD, name="web-2")

    def steps(page: Page) -> None:
        visit(
            page, console, token, "/resource/noVNC/vnc.html?autoconnect=true&show_dot=true&port=8443&token="
        )
        expect_state(page, "connected")
        assert page.url == f"{console.origin}/console"
        wait_for_picture(page)

    chromium.run(steps)


def test_reload_and_reconnect_need_no_token(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium
) -> None:
    token, session_id = console.issue(screen.port, PASSWORD)
    authorized = len(console.calls_of("console.authorize"))

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")
        page.reload()
        expect_state(page, "connected")
        wait_for_picture(page)
        page.click("#again")
        expect_state(page, "connected")
        assert page.evaluate("document.cookie") == ""  # HttpOnly
        [cookie] = page.context.cookies()
        name = f"__Host-console-{session_id}"
        assert (cookie["name"], cookie["secure"], cookie["sameSite"]) == (name, True, "Strict")
        page.click("#again")
        expect_state(page, "connected")
        [rotated] = page.context.cookies()
        assert rotated["value"] != cookie["value"]

    chromium.run(steps)
    assert len(console.calls_of("console.authorize")) == authorized + 1


def test_the_page_warns_before_an_unused_console_is_closed(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium
) -> None:
    token, _ = console.issue(screen.port, PASSWORD)

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")
        console.order("configure", **(asdict(SessionLimits()) | {"idle_timeout_s": 120, "warning_s": 119}))
        expect(page.locator("#warning")).to_be_visible()
        expect(page.locator("#warning-text")).to_contain_text("because it is not used")
        with passing(page, UNWARNED):
            page.click("#stay")
        console.order("configure", **(asdict(SessionLimits()) | {"idle_timeout_s": 1, "warning_s": 0}))
        expect_state(page, "closed")
        expect(page.locator("#notice-title")).to_have_text("This console was closed because it was not used")
        expect(page.locator("#warning")).to_be_hidden()

    try:
        chromium.run(steps)
    finally:
        console.order("configure", **asdict(SessionLimits()))


def test_a_console_follows_its_screen_by_itself(
    console: ConsoleProcess, screen: QemuVncServer, browser: Chromium
) -> None:
    token, session_id = console.issue(screen.port, PASSWORD)
    moved = QemuVncServer(PASSWORD, free_vnc_port())
    place = {"host": "127.0.0.1", "port": moved.port}

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")
        asked = len(console.calls_of("console.target"))
        console.order("target", session_id=session_id, target={**place, "password": PASSWORD})
        with passing(page, INTERRUPTED):
            console.order("retarget", virtual_machine_id=f"vm-{session_id}", **place)
        expect_state(page, "connected")  # without a click
        assert len(console.calls_of("console.target")) == asked + 1
        wait_for_picture(page)

    try:
        browser.run(steps)
    finally:
        moved.close()


def test_the_token_is_not_in_the_history(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium
) -> None:
    token, _ = console.issue(screen.port, PASSWORD)

    def steps(page: Page) -> None:
        requests: list[str] = []
        page.on(
            "request", lambda request: requests.append(f"{request.url} {request.headers.get('referer', '')}")
        )
        visit(page, console, token)
        expect_state(page, "connected")
        assert token in requests[0]
        assert not any(token in line for line in requests[1:])
        page.goto("about:blank")
        page.go_back()
        assert token not in page.url
        expect_state(page, "connected")

    chromium.run(steps)


def test_a_used_link_is_reported(console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium) -> None:
    token, _ = console.issue(screen.port, PASSWORD)

    def first_visit(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")

    chromium.run(first_visit)

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "closed")
        expect(page.locator("#notice-title")).to_have_text("This console link has already been used")
        expect(page.locator("#notice-hint")).to_contain_text("from the cloud's page")
        expect(page.locator("#notice-again")).to_be_hidden()
        assert token not in page.url

    chromium.run(steps)


def test_a_page_whose_answer_is_lost_gets_its_session_by_asking_again(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium
) -> None:
    token, _ = console.issue(screen.port, PASSWORD)

    def lose(route: Route) -> None:
        if route.request.method == "POST" and not lost:
            lost.append(route.fetch().ok)
            route.abort()
        else:
            route.continue_()

    lost: list[bool] = []

    def steps(page: Page) -> None:
        page.route(f"{console.origin}/console*", lose)
        visit(page, console, token)
        expect_state(page, "closed")
        expect(page.locator("#notice-title")).to_have_text("The console proxy cannot be reached")
        page.click("#notice-again")
        expect_state(page, "connected")

    chromium.run(steps)
    assert lost == [True], "the token was spent before"


def test_a_wrong_vnc_password_is_reported(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium
) -> None:
    token, _ = console.issue(screen.port, "wr0ngpwd")

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "closed")
        expect(page.locator("#notice-title")).to_contain_text("rejected the console's password")

    chromium.run(steps)
    assert "wr0ngpwd" not in console.log()


def test_a_console_reconnects_after_its_machine_stopped(console: ConsoleProcess, browser: Chromium) -> None:
    port = free_vnc_port()
    first = QemuVncServer(PASSWORD, port)
    token, session_id = console.issue(port, PASSWORD)

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")
        console.order("target", session_id=session_id, target={"refuse": "machine_stopping"})
        first.close()
        title = page.locator("#notice-title")
        expect(title).to_have_text("The virtual machine is being stopped")
        for reason, expected in (
            ("machine_stopped", "The virtual machine is not running"),
            ("machine_starting", "The virtual machine is being started"),
        ):
            console.order("target", session_id=session_id, target={"refuse": reason})
            expect(title).to_have_text(expected)
            expect(page.locator("#notice-hint")).to_contain_text("reconnects")
        second = QemuVncServer("another8", port)
        console.order(
            "target",
            session_id=session_id,
            target={"host": "127.0.0.1", "port": port, "password": "another8"},
        )
        expect_state(page, "connected")  # without a click
        wait_for_picture(page)
        second.close()

    browser.run(steps)


def test_a_console_opens_when_the_daemon_is_back(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium
) -> None:
    token, _ = console.issue(screen.port, PASSWORD)
    console.order("away", away=True)

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "waiting")
        expect(page.locator("#notice-title")).to_have_text("The cloud cannot check this link now")
        console.order("away", away=False)
        expect_state(page, "connected")  # the token was not used

    try:
        chromium.run(steps)
    finally:
        console.order("away", away=False)


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("logged_out", "You logged out"),
        ("access_revoked", "closed by the cloud's administrator"),
        ("machine_gone", "no longer exists"),
        ("", "has ended"),
    ],
)
def test_a_console_that_the_daemon_ends_stays_ended(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium, code: str, title: str
) -> None:
    token, session_id = console.issue(screen.port, PASSWORD)

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")
        console.order("end", session_ids=[session_id], reason="it ended", code=code)
        expect_state(page, "closed")
        expect(page.locator("#notice-title")).to_contain_text(title)
        expect(page.locator("#notice-again")).to_be_hidden()
        requests = len(console.calls_of("console.target"))
        page.wait_for_timeout(2000)  # several of the first retries' delays
        expect_state(page, "closed")
        assert len(console.calls_of("console.target")) == requests
        page.reload()
        expect(page.locator("#notice-title")).to_contain_text(title)

    chromium.run(steps)


def test_another_site_cannot_open_a_console(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium
) -> None:
    token, session_id = console.issue(screen.port, PASSWORD)

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")
        page.route(
            "https://evil.example/", lambda route: route.fulfill(body="<p>evil", content_type="text/html")
        )
        page.goto("https://evil.example/")
        opened = page.evaluate(
            """url => new Promise(done => {
                const socket = new WebSocket(url, "binary");
                socket.onopen = () => done("open");
                socket.onerror = () => done("refused");
            })""",
            f"wss://127.0.0.1:{console.port}/websockify?session={session_id}",
        )
        assert opened == "refused"

    chromium.run(steps)


def test_mouse_and_scale(console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium) -> None:
    token, _ = console.issue(screen.port, PASSWORD)

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")
        wait_for_picture(page)
        canvas = page.locator("#screen canvas")
        box = canvas.bounding_box()
        area = page.locator("#screen").bounding_box()
        assert box is not None
        assert area is not None
        assert box["width"] <= area["width"] + 1
        assert box["height"] <= area["height"] + 1
        assert max(box["width"] / area["width"], box["height"] / area["height"]) > 0.95
        canvas.click(position={"x": 20, "y": 20})
        expect_state(page, "connected")

    chromium.run(steps, dark=True)


def test_a_page_of_an_earlier_address_says_how_to_come_back(
    console: ConsoleProcess, screen: QemuVncServer, chromium: Chromium
) -> None:
    """Its session goes on; once it is interrupted, the browser has no secret for the new address."""
    token, _ = console.issue(screen.port, PASSWORD)

    def move() -> None:
        console.set_up("localhost", origin=f"https://localhost:{console.port}")

    def steps(page: Page) -> None:
        visit(page, console, token)
        expect_state(page, "connected")
        again = page.locator("#again")
        move()
        expect(again).to_be_disabled()  # it would end this console
        before = wait_for_picture(page)
        page.keyboard.press("Escape")
        wait_for_picture(page, before)
        console.set_up()
        expect(again).to_be_enabled()
        with passing(page, INTERRUPTED):
            console.order("blip")
        expect_state(page, "connected")
        move()
        expect(again).to_be_disabled()
        console.order("blip")
        expect_state(page, "closed")
        expect(page.locator("#notice-hint")).to_contain_text("The console proxy has another address now")
        expect(page.locator("#notice-again")).to_be_hidden()

    try:
        chromium.run(steps)
    finally:
        console.set_up()
