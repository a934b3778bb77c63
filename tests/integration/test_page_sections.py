# SPDX-License-Identifier: Apache-2.0
"""Each section of the page of a real daemon, in Chromium and Firefox, for an administrator and for a user."""

from __future__ import annotations

import sqlite3

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from accessibility import violations
from console_page import open_section
from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host
from integration.page_user import add_account, log_in, press
from integration.page_visitor import Visitor

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]

__all__ = ["browser", "host"]  # fixtures

OF_USERS = ["Templates and ISOs", "Virtual machines", "Volumes", "Snapshots", "Events"]
OF_ADMINISTRATORS = [
    *OF_USERS,
    "Picture of the zone",
    "Image stores",
    "Hosts",
    "Accounts",
    "Settings",
    "Certificates",
]
NARROW: ViewportSize = {"width": 360, "height": 700}
COUNT_CALLS = """() => {
  window.calls = 0;
  const send = window.fetch;
  window.fetch = (...all) => { window.calls += 1; return send(...all); };
}"""
#: Longer than a page that polls would wait.
CALLS_OF_A_WHILE = """() => new Promise((done) => {
  const before = window.calls;
  setTimeout(() => done(window.calls - before), 4000);
})"""


def walk(page: Page, titles: list[str], *, narrow: bool = True) -> None:
    """Open each section by its link, and check it, also on a narrow screen."""
    links = page.get_by_role("navigation", name="Sections").get_by_role("link")
    shown = links.all_inner_texts()
    assert set(titles) <= {*shown}
    for title in shown:
        open_section(page, title)
        expect(page.locator("#live")).to_have_text("live")
        assert page.locator("main > section:visible").count() == 1
        assert violations(page) == [], title
        expect(page.locator("section:visible [role=alert]:visible")).to_have_count(0)
    if not narrow:
        return
    page.set_viewport_size(NARROW)
    for title in shown:
        open_section(page, title)
        assert violations(page) == [], f"{title}, narrow"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), title


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_an_administrator_walks_all_sections(host: Host, browser: Chromium, dark: bool) -> None:
    host.start()

    def steps(page: Page) -> None:
        Visitor(host, None).open(page)
        walk(page, OF_ADMINISTRATORS, narrow=not dark)

    browser.run(steps, dark=dark)


def test_a_user_walks_only_what_the_role_permits(host: Host, browser: Chromium) -> None:
    host.start()
    add_account(host, "una")

    def steps(page: Page) -> None:
        log_in(page, host, "una")
        walk(page, OF_USERS)
        open_section(page, "Events")
        page.reload()
        expect(page.get_by_role("heading", name="Events", exact=True)).to_be_visible()
        page.goto(f"{host.page}/#/settings")
        page.reload()
        expect(page.get_by_role("heading", name="Templates and ISOs")).to_be_visible()

    browser.run(steps)


def test_a_long_list_is_searched_sorted_and_paged_by_the_daemon(host: Host, browser: Chromium) -> None:
    host.start()
    add_account(host, "una")
    with sqlite3.connect(host.layout.database, timeout=60) as database:
        [una] = database.execute("SELECT id FROM accounts WHERE name = 'una'").fetchone()
        columns = "uuid, account_id, domain_id, type, level, state, description, created"
        values = "?, ?, 1, 'TEST', 'WARN', 'Completed', ?, '2026-01-01 00:00:00'"
        database.executemany(
            f"INSERT INTO events ({columns}) VALUES ({values})",
            ((f"00000000-0000-4000-8000-{n:012}", una, f"number {n:05}") for n in range(10_000)),
        )

    def steps(page: Page) -> None:
        log_in(page, host, "una")
        open_section(page, "Events")
        rows, count = page.locator("#events .row"), page.locator("#events .pages [role=status]")
        kind = page.locator("#events").get_by_label("Type")
        kind.fill("TEST")
        kind.press("Enter")
        expect(count).to_have_text("1–20 of 10000")
        expect(rows).to_have_count(20)
        assert page.locator("#events *").count() < 1000
        press(page.get_by_role("button", name="Next"))
        expect(count).to_have_text("21–40 of 10000")
        expect(page.get_by_role("button", name="Next")).to_be_focused()
        page.get_by_label("Search events").fill("number 0999")
        expect(count).to_have_text("1–10 of 10")
        page.get_by_label("Search events").fill("no such text")
        expect(page.locator("#events .empty")).to_have_text("No events fit.")
        page.get_by_label("Search events").fill("")
        expect(count).to_have_text("1–20 of 10000")
        header = page.locator("#events th", has_text="Time")
        assert header.get_attribute("aria-sort") == "descending"
        press(header.get_by_role("button"))
        expect(header).to_have_attribute("aria-sort", "ascending")
        expect(rows.first).to_contain_text("number 00000")

    browser.run(steps)


def test_what_changes_is_shown_at_once_and_keeps_the_place_of_the_keyboard(
    host: Host, browser: Chromium
) -> None:
    host.start()
    add_account(host, "dora", accounttype="2")

    def steps(page: Page) -> None:
        log_in(page, host, "dora")
        open_section(page, "Accounts")
        page.evaluate(COUNT_CALLS)
        add_account(host, "first")
        row = page.locator("#accounts .row", has_text="first")
        disable = row.get_by_role("button", name="Disable")
        disable.focus()
        add_account(host, "second")
        expect(page.locator("#accounts .row", has_text="second")).to_be_visible()
        expect(disable).to_be_focused()
        # the change that was seen can still be followed by one that belongs to it
        quiet = any(page.evaluate(CALLS_OF_A_WHILE) == 0 for _ in range(5))
        assert quiet, "a page without changes asks for nothing"

    browser.run(steps)


def test_an_administrator_changes_and_resets_a_setting(host: Host, browser: Chromium) -> None:
    host.start()

    def steps(page: Page) -> None:
        Visitor(host, None).open(page)
        open_section(page, "Settings")
        page.get_by_label("Search settings").fill("consoleproxy.session.max")
        name = "consoleproxy.session.max"
        row = page.locator("#settings .row").filter(has=page.get_by_text(name, exact=True))
        press(row.get_by_role("button", name="Edit…"))
        dialog = page.locator("#fields")
        dialog.get_by_label("Value").fill("-1")
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text("must be a whole number")
        dialog.get_by_label("Value").fill("7")
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        expect(row.locator("code")).to_contain_text("7")
        [changed] = host.call("listConfigurations", name=name)["configuration"]
        assert changed["value"] == "7"
        press(row.get_by_role("button", name="Reset"))
        press(page.locator("#confirm button.danger"))
        expect(row.get_by_role("button", name="Reset")).to_have_count(0)

    browser.run(steps)
