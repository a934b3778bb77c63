# SPDX-License-Identifier: Apache-2.0
"""Accounts on the page of a real daemon, as a domain administrator has it, by keyboard."""

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


@pytest.mark.parametrize("dark", [False, True])
def test_a_domain_administrator_manages_the_accounts_beneath_by_keyboard(
    host: Host, chromium: Chromium, dark: bool
) -> None:
    host.start()
    domain = host.call("createDomain", name="research")["domain"]["id"]
    add_account(host, "dora", accounttype="2", domainid=domain)
    add_account(host, "outsider")
    for number in range(20):
        add_account(host, f"r{number:02}", domainid=domain)

    def steps(page: Page) -> None:
        log_in(page, host, "dora", "research")
        rows = page.locator("#accounts .row")
        expect(rows).to_have_count(20)  # of 21
        expect(page.locator("#accounts-place")).to_have_text("1–20 of 21")
        assert violations(page) == []
        press(page.get_by_role("button", name="Next"))
        expect(page.locator("#accounts-place")).to_have_text("21–21 of 21")
        press(page.get_by_role("button", name="Previous"))

        press(page.get_by_role("button", name="Add account…"))
        dialog = page.locator("#account-add")
        expect(dialog.locator("[name=username]")).to_be_focused()
        page.keyboard.type("ada")
        for text in ("first password", "Ada", "Lovelace", "ada@example.test"):
            page.keyboard.press("Tab")
            page.keyboard.type(text)
        assert dialog.get_by_label("Role").locator("option").all_inner_texts() == [
            "User",
            "Domain administrator",
        ]
        assert violations(page) == []
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        page.get_by_label("Search accounts").fill("ada")
        page.keyboard.press("Enter")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("ROOT/research")

        press(rows.get_by_role("button", name="Disable"))
        press(page.locator("#confirm button.danger"))
        expect(rows.locator(".state")).to_have_text("disabled")
        press(rows.get_by_role("button", name="Enable"))
        expect(rows.locator(".state")).to_have_text("enabled")
        press(rows.get_by_role("button", name="Delete"))
        press(page.locator("#confirm button.danger"))
        expect(rows).to_have_count(0)
        page.get_by_label("Search accounts").fill("outsider")
        page.keyboard.press("Enter")
        expect(page.locator("#accounts")).to_have_text("No account is named so.")

    chromium.run(steps, dark=dark)
