# SPDX-License-Identifier: Apache-2.0
"""Domains, roles, limits, usage and alerts on the page of a real daemon, by keyboard."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from accessibility import violations, violations_light_and_dark
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host
from integration.page_user import add_account, chromium, log_in, press
from integration.page_visitor import Visitor

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "host"]  # fixtures


def daemon_answers(call: dict[str, str]) -> Any:
    return None


def row_of(page: Page, place: str, name: str) -> Locator:
    return page.locator(f"#{place} .row", has=page.get_by_text(name, exact=True))


def test_domains_are_created_renamed_limited_and_deleted(host: Host, chromium: Chromium) -> None:
    host.start()

    def steps(page: Page) -> None:
        Visitor(host, daemon_answers).open(page)
        open_section(page, "Domains")
        press(page.get_by_role("button", name="Add domain…"))
        expect(page.locator("#fields [name=name]")).to_be_focused()
        page.keyboard.type("research")
        assert violations_light_and_dark(page) == []
        page.keyboard.press("Enter")
        research = row_of(page, "domains", "ROOT/research")
        press(research.get_by_role("button", name="Add beneath…"))
        expect(page.locator("#fields [name=parentdomainid] option:checked")).to_have_text("ROOT/research")
        expect(page.locator("#fields [name=name]")).to_be_focused()
        page.keyboard.type("a/b")
        page.keyboard.press("Enter")
        expect(page.locator("#fields .error")).to_contain_text("no slash")
        page.locator("#fields [name=name]").fill("physics")
        page.keyboard.press("Enter")
        expect(row_of(page, "domains", "ROOT/research/physics")).to_be_visible()

        press(research.get_by_role("button", name="Rename…"))
        page.locator("#fields [name=name]").fill("science")
        page.keyboard.press("Enter")
        science = row_of(page, "domains", "ROOT/science")
        assert page.locator("#domains .row").all_inner_texts()[0].startswith("ROOT")
        expect(row_of(page, "domains", "ROOT/science/physics")).to_be_visible()

        press(science.get_by_role("button", name="Limits"))
        expect(page.locator("#limits-of")).to_have_text("of domain ROOT/science")
        press(page.get_by_role("button", name="Change limit of VMs"))
        page.locator("#limit-edit").get_by_label("Limit", exact=True).fill("7")
        page.keyboard.press("Enter")
        expect(page.locator("#limits .row", has_text="VMs")).to_contain_text("7")
        assert violations_light_and_dark(page) == []

        open_section(page, "Domains")
        press(science.get_by_role("button", name="Delete…"))
        page.keyboard.press("Tab")
        press(page.locator("#fields .danger"))
        expect(page.locator("#fields .error")).to_contain_text("domain")
        page.get_by_label("With its accounts").check()
        press(page.locator("#fields .danger"))
        expect(page.locator("#domains .row")).to_have_count(1)
        assert violations_light_and_dark(page) == []

    chromium.run(steps)


def test_a_role_is_made_of_another_and_its_rules_are_ordered(host: Host, chromium: Chromium) -> None:
    host.start()

    def rules() -> list[tuple[str, str]]:
        [role] = host.call("listRoles", name="auditor")["role"]
        found = host.call("listRolePermissions", roleid=role["id"]).get("rolepermission", [])
        return [(rule["rule"], rule["permission"]) for rule in found]

    def steps(page: Page) -> None:
        Visitor(host, daemon_answers).open(page)
        open_section(page, "Roles")
        press(page.get_by_role("button", name="Add role…"))
        expect(page.locator("#fields [name=name]")).to_be_focused()
        page.keyboard.type("auditor")
        page.locator("#fields [name=source]").select_option(label="No rule, for accounts of type User")
        assert violations_light_and_dark(page) == []
        press(page.locator("#fields .primary"))
        auditor = row_of(page, "roles", "auditor")
        press(auditor.get_by_role("button", name="Rules…"))
        dialog = page.locator("#rules")
        for rule in ("list*", "listEvents"):
            dialog.locator("[name=rule]").fill(rule)
            page.keyboard.press("Enter")
            expect(dialog.locator("tbody tr", has_text=rule).last).to_be_visible()
            expect(dialog.locator("[name=rule]")).to_be_focused()
        dialog.locator("[name=rule]").fill("not a command")
        page.keyboard.press("Enter")
        expect(dialog.locator(".error")).to_be_visible()
        press(dialog.get_by_role("button", name="Up rule listEvents"))
        expect(dialog.locator("tbody tr").first).to_contain_text("listEvents")
        expect(dialog.get_by_role("button", name="Down rule listEvents")).to_be_focused()
        press(dialog.get_by_role("button", name="Deny rule listEvents"))
        expect(dialog.locator("tbody tr").first).to_contain_text("deny")
        assert rules() == [("listEvents", "deny"), ("list*", "allow")]
        assert violations_light_and_dark(page) == []
        press(dialog.get_by_role("button", name="Delete rule listEvents"))
        expect(dialog.locator("tbody tr")).to_have_count(1)
        press(dialog.get_by_role("button", name="Close"))

        press(auditor.get_by_role("button", name="Edit…"))
        page.locator("#fields [name=description]").fill("reads")
        page.keyboard.press("Enter")
        expect(auditor).to_contain_text("reads")
        user = row_of(page, "roles", "Root Admin")
        expect(user.get_by_role("button", name="Edit…")).to_have_count(0)
        press(user.get_by_role("button", name="Rules…"))
        expect(dialog.locator("[name=rule]")).to_be_hidden()
        press(dialog.get_by_role("button", name="Close"))
        press(auditor.get_by_role("button", name="Delete"))
        press(page.locator("#confirm .danger"))
        expect(auditor).to_have_count(0)

    chromium.run(steps)


@contextmanager
def held(page: Page, command: str) -> Iterator[None]:
    """Hold every call of a command until the end of the block."""
    calls: list[Route] = []

    def hold(route: Route) -> None:
        if f"command={command}&" in (route.request.post_data or ""):
            calls.append(route)
        else:
            route.fallback()

    page.route("**/client/api", hold)
    yield
    for call in calls:
        call.continue_()
    page.unroute("**/client/api", hold)


def test_a_domain_administrator_limits_accounts_and_not_the_own_domain(
    host: Host, chromium: Chromium
) -> None:
    host.start()
    domain = host.call("createDomain", name="research")["domain"]["id"]
    add_account(host, "dora", accounttype="2", domainid=domain)
    add_account(host, "ursula", domainid=domain)

    def steps(page: Page) -> None:
        log_in(page, host, "dora", "research")
        links = page.locator("#sections a")
        for hidden in ("Picture of the zone", "Alerts"):
            expect(links.get_by_text(hidden, exact=True)).to_have_count(0)
        open_section(page, "Accounts")
        press(row_of(page, "accounts", "ursula").get_by_role("button", name="Limits"))
        expect(page.locator("#limits-of")).to_have_text("of account ursula of ROOT/research")
        press(page.get_by_role("button", name="Change limit of Memory"))
        page.locator("#limit-edit").get_by_label("Limit", exact=True).fill("4096")
        page.keyboard.press("Enter")
        memory = page.locator("#limits .row", has_text="Memory")
        expect(memory).to_contain_text("4,096 MiB")
        expect(memory.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "0")
        with held(page, "listResourceLimits"):
            press(page.get_by_role("button", name="My own"))
            expect(page.locator("#limits-of")).to_have_text("of account dora")
            expect(page.locator("#limits .row")).to_have_count(0)
        expect(page.locator("#limits .row").first).to_be_visible()
        expect(page.locator("#limits").get_by_role("button")).to_have_count(0)
        assert violations(page) == []
        open_section(page, "Domains")
        press(page.locator("#domains").get_by_role("button", name="Limits"))
        expect(page.locator("#limits-of")).to_have_text("of domain ROOT/research")
        expect(page.locator("#limits .row").first).to_be_visible()
        expect(page.locator("#limits").get_by_role("button")).to_have_count(0)
        open_section(page, "Domains")
        expect(page.locator("#domains .row")).to_have_count(1)
        assert page.locator("#domains .row").get_by_role("button").all_inner_texts() == [
            "Add beneath…",
            "Limits",
        ]
        open_section(page, "Roles")
        expect(row_of(page, "roles", "User")).to_be_visible()
        expect(page.locator("#roles").get_by_role("button", name="Edit…")).to_have_count(0)

    chromium.run(steps)


def test_a_user_sees_the_own_limits_and_usage_only(host: Host, chromium: Chromium, tmp_path: Path) -> None:
    host.start()
    add_account(host, "=ulla", firstname="x")
    [account] = host.call("listAccounts", name="=ulla")["account"]
    host.call("updateResourceLimit", resourcetype="0", max="3", account="=ulla", domainid=account["domainid"])
    add_account(host, "other")

    def steps(page: Page) -> None:
        log_in(page, host, "=ulla")
        for hidden in ("Domains", "Roles", "Alerts", "Picture of the zone"):
            expect(page.locator("#sections a").get_by_text(hidden, exact=True)).to_have_count(0)
        open_section(page, "Limits")
        machines = page.locator("#limits .row", has_text="VMs")
        expect(machines.get_by_role("progressbar", name="VMs in use")).to_have_attribute("aria-valuenow", "0")
        expect(machines).to_contain_text("3")
        expect(page.locator("#limits").get_by_role("button")).to_have_count(0)
        assert violations(page) == []
        open_section(page, "Usage")
        expect(page.locator("#usage .row")).to_have_count(1)
        expect(page.locator("#usage-sums")).to_contain_text("1 account: 0 B stored")
        with page.expect_download() as download:
            press(page.get_by_role("button", name="Download CSV"))
        download.value.save_as(tmp_path / "usage.csv")
        [names, values] = list(csv.reader((tmp_path / "usage.csv").open(newline="")))
        assert dict(zip(names, values, strict=True))["account"] == "'=ulla", "a spreadsheet does not run it"
        assert violations(page) == []

    chromium.run(steps)


def test_alerts_are_archived_and_deleted(host: Host, chromium: Chromium) -> None:
    host.start()
    for number in range(3):
        host.call("generateAlert", type=7, name="ALERT.COMPUTE.HOST", description=f"host {number} is late")

    def steps(page: Page) -> None:
        Visitor(host, daemon_answers).open(page)
        open_section(page, "Alerts")
        alerts = page.locator("#alerts .row", has_text="is late")
        expect(alerts).to_have_count(3)
        expect(page.locator("#alert-deliveries")).to_contain_text("No way out is set")
        assert violations(page) == []
        for verb, left in (("Archive", 2), ("Delete", 1)):
            page.get_by_role("checkbox", name="Select host").first.check()
            press(page.locator("#alerts").get_by_role("button", name=verb))
            press(page.locator("#confirm .danger"))
            expect(alerts).to_have_count(left)

    chromium.run(steps)
