# SPDX-License-Identifier: Apache-2.0
"""Accounts on the page of a real daemon, as a domain administrator has it, by keyboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations, violations_light_and_dark
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host
from integration.page_user import add_account, chromium, log_in, press

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "host"]  # fixtures


def test_a_domain_administrator_manages_the_accounts_beneath_by_keyboard(
    host: Host, chromium: Chromium
) -> None:
    host.start()
    domain = host.call("createDomain", name="research")["domain"]["id"]
    add_account(host, "dora", accounttype="2", domainid=domain)
    add_account(host, "outsider")
    for number in range(20):
        add_account(host, f"r{number:02}", domainid=domain)

    def steps(page: Page) -> None:
        log_in(page, host, "dora", "research")
        open_section(page, "Accounts")
        rows = page.locator("#accounts .row")
        place = page.locator("#accounts .pages [role=status]")
        expect(rows).to_have_count(20)  # of 21
        expect(place).to_have_text("1–20 of 21")
        assert violations_light_and_dark(page) == []
        press(page.get_by_role("button", name="Next"))
        expect(place).to_have_text("21–21 of 21")
        press(page.get_by_role("button", name="Previous"))

        press(page.get_by_role("button", name="Add account…"))
        dialog = page.locator("#fields")
        expect(dialog.locator("[name=username]")).to_be_focused()
        page.keyboard.type("ada")
        for text in ("first password", "Ada", "Lovelace", "ada@example.test"):
            page.keyboard.press("Tab")
            page.keyboard.type(text)
        assert dialog.get_by_label("Role").locator("option").all_inner_texts() == [
            "User",
            "Domain administrator",
        ]
        assert violations_light_and_dark(page) == []
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        page.get_by_label("Search accounts", exact=True).fill("ada")
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
        page.get_by_label("Search accounts", exact=True).fill("outsider")
        with page.expect_response(lambda answer: "keyword=outsider" in (answer.request.post_data or "")):
            page.keyboard.press("Enter")
        expect(page.locator("#accounts .empty")).to_have_text("No accounts fit.")

    chromium.run(steps)


def test_a_domain_administrator_adds_a_user_to_an_account(host: Host, chromium: Chromium) -> None:
    host.start()
    domain = host.call("createDomain", name="research")["domain"]["id"]
    add_account(host, "dora", accounttype="2", domainid=domain)
    add_account(host, "lab", domainid=domain)
    add_account(host, "outsider")

    def steps(page: Page) -> None:
        log_in(page, host, "dora", "research")
        open_section(page, "Users")
        rows, dialog = page.locator("#users .row"), page.locator("#fields")
        expect(rows).to_have_count(2)
        expect(rows.filter(has_text="dora").get_by_role("button")).to_have_count(0)
        press(page.get_by_role("button", name="Add user…"))
        for label, text in (("User", "ada"), ("Password", "first password"), ("First name", "Ada"),
                            ("Last name", "Lovelace"), ("E-mail", "ada@example.test")):  # fmt: skip
            dialog.get_by_label(label, exact=True).fill(text)
        dialog.get_by_label("Account").select_option(label="lab, ROOT/research")
        assert violations(page) == []
        page.keyboard.press("Enter")
        ada = rows.filter(has_text="ada@example.test")
        expect(ada).to_contain_text("lab")
        press(ada.get_by_role("button", name="Edit…"))
        dialog.get_by_label("Last name").fill("King")
        page.keyboard.press("Enter")
        expect(ada).to_contain_text("Ada King")
        press(ada.get_by_role("button", name="Password…"))
        page.keyboard.type("second password")
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        press(ada.get_by_role("button", name="Disable"))
        press(page.locator("#confirm button.danger"))
        expect(ada.locator(".state")).to_have_text("disabled")
        press(ada.get_by_role("button", name="Enable"))
        expect(ada.locator(".state")).to_have_text("enabled")
        [found] = host.call("listUsers", username="ada", listall="true")["user"]
        assert (found["account"], found["lastname"], found["state"]) == ("lab", "King", "enabled")
        press(ada.get_by_role("button", name="Delete"))
        press(page.locator("#confirm button.danger"))
        expect(rows).to_have_count(2)
        open_section(page, "Accounts")
        lab = page.locator("#accounts .row", has_text="lab")
        press(lab.get_by_role("button", name="Edit…"))
        dialog.get_by_label("Name").fill("laboratory")
        page.keyboard.press("Enter")
        expect(page.locator("#accounts .row", has_text="laboratory")).to_be_visible()

    chromium.run(steps)
