# SPDX-License-Identifier: Apache-2.0
"""A real browser, stock noVNC, and a real QEMU's screen behind the console's front."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from integration.cpvm_lab.chromium import Chromium, wait_for_picture
from integration.cpvm_lab.front import Front
from integration.cpvm_lab.screen import QemuScreen, free_vnc_port

pytestmark = pytest.mark.timeout(120)

PASSWORD = "s3cr3t8x"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(tmp_path_factory.mktemp("front"))
    yield front
    front.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


@pytest.fixture
def screen() -> Iterator[QemuScreen]:
    screen = QemuScreen(PASSWORD, free_vnc_port())
    yield screen
    screen.close()


def visit(page: Page, front: Front, token: str, path: str = "/console?cmd=auth&token=") -> None:
    page.goto(f"{front.origin}{path}{token}")


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-state", state, timeout=30_000)


def test_picture_and_keys(front: Front, screen: QemuScreen, chromium: Chromium) -> None:
    token, _ = front.issue(screen.port, PASSWORD, name="web-1")

    def story(page: Page) -> None:
        visit(page, front, token)
        expect_state(page, "connected")
        assert page.url == f"{front.origin}/console"
        assert page.title() == "web-1 – console"
        expect(page.locator("#name")).to_have_text("web-1")
        expect(page.locator("#state-text")).to_have_text("Connected")
        before = wait_for_picture(page)
        page.keyboard.press("Escape")  # SeaBIOS's boot menu
        after = wait_for_picture(page, before)
        page.keyboard.press("F8")
        page.click("#keys")  # Ctrl-Alt-Del starts the machine again: the menu goes away
        wait_for_picture(page, after)

    chromium.tell(story)
    for secret in (token, PASSWORD, "__Host-console="):
        assert secret not in front.log()
