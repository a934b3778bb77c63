# SPDX-License-Identifier: Apache-2.0
"""API keys of a user on the page of a real daemon, by keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from accessibility import violations
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["host"]  # the fixture

OPERATORS = ("System VMs", "Image stores", "Hosts", "Certificates")


@pytest.fixture
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


def add_account(host: Host, name: str, **more: str) -> None:
    names = {"firstname": name, "lastname": "x", "email": f"{name}@example.test", "accounttype": "0"}
    host.call("createAccount", username=name, password=f"password of {name}", **(names | more))


def log_in(page: Page, host: Host, name: str, domain: str = "") -> None:
    page.goto(host.page)
    page.fill("#login-form [name=username]", name)
    page.fill("#login-form [name=password]", f"password of {name}")
    page.fill("#login-form [name=domain]", domain)
    page.keyboard.press("Enter")
    expect(page.locator("#live")).to_have_text("live")
    for heading in OPERATORS:
        expect(page.get_by_role("heading", name=heading)).to_have_count(0)


def press(button: Locator) -> None:
    button.focus()
    button.press("Enter")


def test_a_user_makes_and_ends_an_api_key_by_keyboard(host: Host, chromium: Chromium) -> None:
    host.start()
    add_account(host, "ulla")

    def steps(page: Page) -> None:
        log_in(page, host, "ulla")
        assert violations(page) == []
        press(page.get_by_role("button", name="API keys…"))
        dialog, secret = page.locator("#keys"), page.locator("#key-secret")
        dialog.get_by_label("Name").fill("backup")
        dialog.get_by_label("Commands").fill("list*")
        page.keyboard.press("Enter")
        expect(secret).to_be_visible()
        assert len(secret.get_by_label("Secret key").input_value()) >= 64
        assert violations(page) == []
        page.keyboard.press("Escape")
        expect(page.locator("#key-secret [name=secretkey]")).to_have_value("")
        press(page.get_by_role("button", name="API keys…"))
        expect(dialog.locator("tbody tr")).to_have_count(1)
        expect(dialog.locator("tbody tr")).to_contain_text("list*")
        assert violations(page) == []
        press(dialog.get_by_role("button", name="Delete backup"))
        expect(dialog.locator("tbody tr")).to_have_count(0)
        expect(dialog.get_by_label("Name")).to_be_focused()

    chromium.run(steps)
