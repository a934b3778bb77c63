# SPDX-License-Identifier: Apache-2.0
"""The console's page in Chromium and in Firefox: keys by layout, text, reconnection, preferences."""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Callable, Iterator

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import INTERRUPTED, Chromium, passing, wait_for_picture
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.firefox import Firefox
from integration.cpvm_lab.typewriter import Typewriter, keys_of
from integration.cpvm_lab.vnc_server import FakeVncServer, exactly, free_vnc_port
from systemvm.management.screens.keymap import load
from systemvm.wire.console import UNRESTRICTED, ConsolePolicy

pytestmark = pytest.mark.timeout(240)

__all__ = ["browser"]  # a fixture

PASSWORD = "s3cr3t8x"
Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    console = ConsoleProcess(tmp_path_factory.mktemp("console"))
    yield console
    console.close()


@pytest.fixture(scope="module")
def typewriter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typewriter]:
    typewriter = Typewriter(tmp_path_factory.mktemp("typewriter"), free_vnc_port(), PASSWORD)
    yield typewriter
    typewriter.close()


@pytest.fixture
def visit(console: ConsoleProcess, typewriter: Typewriter) -> Visit:
    """Return a function that opens the typewriter's console in a page."""

    def opened(page: Page, query: str = "", policy: ConsolePolicy = UNRESTRICTED) -> Page:
        token, _ = console.issue(typewriter.screen.port, PASSWORD, name="web-1", policy=policy)
        page.goto(f"{console.origin}/console?cmd=auth&token={token}{query}")
        expect_state(page, "connected")
        return page

    return opened


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-state", state)


def press(page: Page, *keys: tuple[str, str]) -> None:
    """Press keys together, as a keyboard of any layout reports them: character and place."""
    page.evaluate(
        """keys => {
            const canvas = document.querySelector("#screen canvas");
            const send = (kind, [key, code]) => canvas.dispatchEvent(
                new KeyboardEvent(kind, { key, code, bubbles: true, cancelable: true }));
            for (const each of keys) send("keydown", each);
            for (const each of keys.toReversed()) send("keyup", each);
        }""",
        keys,
    )


def choose_layout(page: Page, layout: str) -> None:
    page.click("#preferences-button")
    page.select_option("#layout", layout)
    page.keyboard.press("Escape")
    expect(page.locator("#preferences")).to_be_hidden()
    expect(page.locator("body")).to_have_attribute("data-layout", layout)  # its keys are loaded


def type_text(page: Page, text: str) -> None:
    page.click("#clipboard-button")
    page.fill("#clipboard-text", text)
    page.click("#clipboard-type")
    expect(page.locator("#clipboard-state")).to_have_text(f"Typed {len(text)} of {len(text)}")
    page.keyboard.press("Escape")


SHIFT, ALT_GR = ("Shift", "ShiftLeft"), ("AltGraph", "AltRight")


def test_a_german_y_is_a_y(browser: Chromium, typewriter: Typewriter, visit: Visit) -> None:
    """By its place, from a German keyboard to a German guest; by its character, from another keyboard."""

    def steps(page: Page) -> None:
        visit(page)
        press(page, ("y", "KeyZ"))
        press(page, ("z", "KeyY"))
        assert typewriter.scan_codes(2) == [0x2C, 0x15], "as pressed: places of the user's keyboard"
        choose_layout(page, "de")
        press(page, ("y", "KeyY"))
        press(page, ("z", "KeyZ"))
        press(page, ("ü", "BracketLeft"))
        press(page, SHIFT, ("@", "Digit2"))
        assert typewriter.take(4) == [
            ("z", 0x2C),
            ("y", 0x15),
            ("[", 0x1A),
            ("\0", 0x10),  # AltGr-Q, without the user's Shift
        ]
        press(page, SHIFT, ("Y", "KeyY"))
        assert typewriter.take(1) == [("Z", 0x2C)]

    browser.run(steps)


def test_keys_of_a_french_and_a_us_guest(browser: Chromium, typewriter: Typewriter, visit: Visit) -> None:
    def steps(page: Page) -> None:
        visit(page, "&language=fr")
        page.click("#preferences-button")
        expect(page.locator("#layout")).to_have_value("fr")  # the link's
        page.keyboard.press("Escape")
        expect(page.locator("body")).to_have_attribute("data-layout", "fr")  # its keys are loaded
        for key in (("a", "KeyA"), ("m", "KeyM"), ("1", "Digit1"), ("é", "Digit2")):
            press(page, key)
        assert typewriter.take(4) == [("q", 0x10), (";", 0x27), ("!", 0x02), ("2", 0x03)]
        choose_layout(page, "us")
        press(page, ("z", "KeyY"))  # of a German keyboard
        press(page, SHIFT, ("?", "Minus"))
        press(page, ALT_GR, ("@", "KeyQ"))
        press(page, ("Enter", "Enter"))
        assert typewriter.text(4) == "z?@\r"

    browser.run(steps)


class KeySymServer:
    """A VNC server without QEMU's extended key events, which maps keysyms by a US keyboard."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, bool]] = []
        self._server = FakeVncServer(self._serve)
        self.port = self._server.port
        self.close = self._server.close

    def _serve(self, viewer: socket.socket) -> None:
        for sent, length in ((b"RFB 003.008\n", 12), (b"\x01\x01", 1), (bytes(4), 1)):
            viewer.sendall(sent)
            exactly(viewer, length)
        pixel_format = bytes((32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0))
        viewer.sendall(bytes((0, 16, 0, 16)) + pixel_format + bytes((0, 0, 0, 1)) + b"x")
        lengths = {0: 19, 3: 9, 4: 7, 5: 5}
        while True:
            kind = exactly(viewer, 1)[0]
            if kind == 2:
                exactly(viewer, 4 * int.from_bytes(exactly(viewer, 3)[1:], "big"))
                continue
            body = exactly(viewer, lengths[kind])
            if kind == 4:
                self.keys.append((int.from_bytes(body[3:], "big"), bool(body[0])))


def test_servers_without_key_codes_get_the_keysym_of_a_us_keyboard(
    browser: Chromium, console: ConsoleProcess
) -> None:
    server = KeySymServer()
    token, _ = console.issue(server.port)

    def steps(page: Page) -> None:
        page.goto(f"{console.origin}/console?cmd=auth&token={token}&language=de")
        expect_state(page, "connected")
        expect(page.locator("body")).to_have_attribute("data-layout", "de")  # its keys are loaded
        press(page, ("z", "KeyZ"))
        press(page, SHIFT, ("?", "Slash"))
        while len(server.keys) < 6:  # the test's own timeout bounds it
            page.wait_for_timeout(100)
        # a guest with a German layout has Z where a US keyboard has Y, and ? where it has the underscore
        y, underscore, shift = 0x79, 0x5F, 0xFFE1
        assert server.keys == [
            (y, True), (y, False), (shift, True), (underscore, True), (underscore, False), (shift, False),
        ]  # fmt: skip

    try:
        browser.run(steps)
    finally:
        server.close()


def test_text_is_typed_by_the_layout(browser: Chromium, typewriter: Typewriter, visit: Visit) -> None:
    def steps(page: Page) -> None:
        visit(page, "&language=us")
        text = "Pack my box with five dozen liquor jugs: 0123456789 (~!@#$%^&*)\n" * 2
        type_text(page, text)
        assert typewriter.text(len(text)) == text.replace("\n", "\r")
        choose_layout(page, "de")
        text = "Grüße, Zypern: {[]}@€ 5°\\"
        type_text(page, text)
        chords = load("de").type(text)
        assert typewriter.scan_codes(len(chords)) == keys_of(chords)
        page.click("#clipboard-button")
        page.fill("#clipboard-text", "жук")
        page.click("#clipboard-type")
        expect(page.locator("#clipboard-state")).to_contain_text("does not have “ж” (U+0436)")

    browser.run(steps)


def test_clipboard_goes_both_ways(browser: Chromium, visit: Visit) -> None:
    """QEMU passes the clipboard between its clients, as it does between client and guest agent."""
    text = "Grüße, 😀\nzweite Zeile"

    def steps(page: Page) -> None:
        visit(page)
        other = visit(page.context.new_page())
        page.click("#clipboard-button")
        page.fill("#clipboard-text", text)
        page.click("#clipboard-send")
        expect(other.locator("#clipboard-guest")).to_have_value(text)
        other.click("#clipboard-button")
        other.fill("#clipboard-text", "zurück: 漢字")
        other.click("#clipboard-send")
        expect(page.locator("#clipboard-guest")).to_have_value("zurück: 漢字")

    browser.run(steps)


def test_the_page_shows_what_the_policy_forbids(browser: Chromium, visit: Visit) -> None:
    def steps(page: Page) -> None:
        visit(page, policy=ConsolePolicy(False, False, True))
        page.click("#clipboard-button")
        expect(page.locator("#clipboard-send")).to_be_hidden()
        expect(page.locator("#clipboard-type")).to_be_visible()
        expect(page.locator("#clipboard-from")).to_be_visible()
        visit(page, policy=ConsolePolicy(True, True, True))
        for hidden in ("#keys", "#key-menu-button", "#clipboard-button", "#power-button"):
            expect(page.locator(hidden)).to_be_hidden()
        expect(page.locator("#picture")).to_be_enabled()

    browser.run(steps)


def test_reload_and_blip_come_back_to_the_session(
    browser: Chromium, console: ConsoleProcess, visit: Visit
) -> None:
    def steps(page: Page) -> None:
        visit(page)
        authorized = len(console.calls_of("console.authorize"))
        page.reload()
        expect_state(page, "connected")
        wait_for_picture(page)
        asked = len(console.calls_of("console.target"))
        with passing(page, INTERRUPTED):
            console.order("blip")
        expect_state(page, "connected")  # without a click
        assert len(console.calls_of("console.target")) == asked + 1
        wait_for_picture(page)
        assert len(console.calls_of("console.authorize")) == authorized

    # Firefox reports a connection that ends with its page as an error
    browser.run(steps, ignored="was interrupted while the page was loading")


def test_power_is_what_the_daemon_permits(browser: Chromium, console: ConsoleProcess, visit: Visit) -> None:
    def steps(page: Page) -> None:
        console.order("power", power={"state": "Running", "actions": ["stop", "turn_off"]})
        visit(page)
        page.click("#power-button")
        expect(page.locator("#power-state")).to_have_text("Running")
        buttons = page.locator("#power-actions button")
        expect(buttons).to_have_text(["Shut down", "Turn off"])
        buttons.nth(1).click()
        expect(buttons.nth(1)).to_have_text("Turn off: press again")
        assert [call["action"] for call in console.calls_of("console.power") if call["action"]] == []
        buttons.nth(1).click()
        console.order("power", power={"state": "Stopped", "actions": ["start"]})
        expect(buttons).to_have_text(["Start"])
        while (
            actions := [call["action"] for call in console.calls_of("console.power") if call["action"]]
        ) == []:
            page.wait_for_timeout(50)
        assert actions == ["turn_off"]
        console.order("power", power=None)
        expect(page.locator("#power-state")).to_have_text(
            "This console may not do that to the virtual machine"
        )

    console.order("calls", clear=True)
    browser.run(steps)


def test_keys_of_menu_and_bar(browser: Chromium, typewriter: Typewriter, visit: Visit) -> None:
    def steps(page: Page) -> None:
        visit(page)
        page.click("#key-menu-button")
        page.get_by_role("button", name="F9", exact=True).click()
        expect(page.locator("#key-menu")).to_be_hidden()
        page.click("#preferences-button")
        page.select_option("#preferences [name=bar]", "always")
        page.keyboard.press("Escape")
        bar = page.get_by_role("toolbar", name="Keys")
        shift = bar.get_by_role("button", name="Shift")
        shift.click()
        expect(shift).to_have_attribute("aria-pressed", "true")
        press(page, ("a", "KeyA"))
        expect(shift).to_have_attribute("aria-pressed", "false")
        press(page, ("b", "KeyB"))
        bar.get_by_role("button", name="Up", exact=True).click()
        bar.get_by_role("button", name="⌨ Keyboard").click()
        page.keyboard.insert_text("Hi")
        assert typewriter.take(6) == [
            ("\0", 0x43), ("A", 0x1E), ("b", 0x30), ("\0", 0x48), ("H", 0x23), ("i", 0x17),
        ]  # fmt: skip
        page.set_viewport_size({"width": 420, "height": 700})  # a phone
        page.wait_for_function("() => document.querySelector('#screen').clientWidth === 420")
        page.wait_for_function("() => document.querySelector('#screen canvas').clientWidth <= 420")

    browser.run(steps)


def test_a_layout_that_cannot_be_loaded_is_said_and_tried_again(browser: Chromium, visit: Visit) -> None:
    def steps(page: Page) -> None:
        visit(page)
        page.route("**/keymaps/fr.json", lambda route: route.abort())
        page.click("#preferences-button")
        page.select_option("#layout", "fr")
        expect(page.locator("#layout-state")).to_contain_text("cannot be loaded")
        page.unroute("**/keymaps/fr.json")
        expect(page.locator("body")).to_have_attribute("data-layout", "fr")
        expect(page.locator("#layout-state")).to_be_empty()

    browser.run(steps)


def test_preferences_are_remembered(browser: Chromium, visit: Visit) -> None:
    def steps(page: Page) -> None:
        visit(page)
        page.click("#preferences-button")
        for name, value in (("scale", "actual"), ("theme", "dark"), ("quality", "lean")):
            page.select_option(f"#preferences [name={name}]", value)
        page.select_option("#layout", "fr-ch")
        page.reload()
        expect_state(page, "connected")
        for name, value in (("scale", "actual"), ("theme", "dark"), ("quality", "lean")):
            expect(page.locator(f"#preferences [name={name}]")).to_have_value(value)
        expect(page.locator("#layout")).to_have_value("fr-ch")
        dark = page.evaluate("getComputedStyle(document.querySelector('header')).backgroundColor")
        assert dark == "rgb(21, 26, 36)"
        # in actual size
        page.wait_for_function(
            "() => { const { width, clientWidth } = document.querySelector('#screen canvas');"
            " return width === clientWidth; }"
        )

    browser.run(steps)


def test_screenshot_is_the_screen(browser: Chromium, visit: Visit) -> None:
    def steps(page: Page) -> None:
        visit(page)
        wait_for_picture(page)
        size = page.locator("#screen canvas").evaluate("canvas => [canvas.width, canvas.height]")
        # what is given to the browser to save: Firefox reports no download of a blob to Playwright
        page.evaluate(
            """() => {
                const make = URL.createObjectURL;
                URL.createObjectURL = blob => { window.saved = { blob }; return make.call(URL, blob); };
                HTMLAnchorElement.prototype.click = function () { window.saved.name = this.download; };
            }"""
        )
        page.click("#picture")
        page.wait_for_function("() => window.saved?.name")
        name, content = page.evaluate(
            "async () => [saved.name, [...new Uint8Array(await saved.blob.arrayBuffer())]]"
        )
        assert re.fullmatch(r"web-1-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.png", name)
        picture = Image.open(io.BytesIO(bytes(content)))
        assert [picture.width, picture.height] == size
        if not isinstance(browser, Firefox):
            page.reload()
            expect_state(page, "connected")
            with page.expect_download() as started:
                page.click("#picture")
            assert started.value.suggested_filename.startswith("web-1-")

    browser.run(steps)


def test_everything_is_reached_by_keyboard(browser: Chromium, typewriter: Typewriter, visit: Visit) -> None:
    def steps(page: Page) -> None:
        visit(page)
        page.locator("#screen canvas").focus()
        page.keyboard.press("x")
        page.keyboard.press("Tab")  # is the guest's
        assert typewriter.take(2) == [("x", 0x2D), ("\t", 0x0F)]
        for key in ("Control", "Alt", "Shift"):
            page.keyboard.down(key)
        for key in ("Shift", "Alt", "Control"):
            page.keyboard.up(key)
        expect(page.locator("#keys")).to_be_focused()
        order = []
        for _ in range(7):
            page.keyboard.press("Tab")
            order.append(page.evaluate("document.activeElement.id"))
        assert order == [
            "key-menu-button", "clipboard-button", "power-button", "preferences-button", "picture", "full",
            "again",
        ]  # fmt: skip
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, select, textarea, canvas, [popover]")]
                .filter(each => !each.labels?.length && !each.textContent.trim())
                .filter(each => !each.title && !each.ariaLabel)
                .map(each => each.outerHTML)"""
        )
        assert nameless == []

    browser.run(steps)
