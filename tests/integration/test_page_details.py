# SPDX-License-Identifier: Apache-2.0
"""Details of objects on the page, without a daemon: the keyboard, late answers, and whose can be changed."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import RefusedError, StubbedPage, chromium
from integration.page_user import press

pytestmark = pytest.mark.timeout(120)

__all__ = ["chromium"]  # the fixture

TAG = {"key": "env", "value": "test"}
CHANGES: dict[str, Any] = {"createTags": {}, "deleteTags": {}, "addAnnotation": {}}


def volume(name: str) -> dict[str, Any]:
    owner = {"account": "una", "domainid": "d"}
    return {"id": f"id of {name}", "name": name, "type": "DATADISK", "state": "Ready"} | owner


def template(name: str, domain: str) -> dict[str, Any]:
    owner = {"account": "admin", "domainid": domain}
    return {"id": f"id of {name}", "name": name, "format": "QCOW2", "tags": [TAG]} | owner


def stubbed(page: Page, **answers: Any) -> StubbedPage:
    lists: dict[str, Any] = {
        "listVolumes": {"volume": [volume("one"), volume("two")], "count": 2},
        "listTags": {"tag": [TAG]},
        "listAnnotations": {},
    }
    return StubbedPage(page, **lists | CHANGES | answers)


def open_details(page: Page, name: str) -> Locator:
    press(page.get_by_role("button", name=name, exact=True))
    details = page.locator("#details")
    expect(details.get_by_role("heading", name=name, exact=True)).to_be_visible()
    return details


def test_the_keyboard_is_first_where_it_deletes_nothing(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = stubbed(page)
        stub.log_in()
        details = open_details(page, "one")
        expect(details.get_by_role("heading", name="one", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(details.get_by_role("button", name="Delete tag env")).to_be_focused()
        page.evaluate("settled()")
        assert stub.count("deleteTags") == 0

    chromium.run(steps)


def test_a_late_answer_changes_no_other_details(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = stubbed(page, createTags=RefusedError(431))
        stub.log_in()
        details = open_details(page, "one")
        stub.hold("createTags")
        details.get_by_label("Key").fill("team")
        details.get_by_label("Value").fill("web")
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        open_details(page, "two")
        details.get_by_label("Key").fill("cost")
        stub.release("createTags")
        expect(page.locator("#toasts .bad")).to_have_text("refused")
        expect(details.get_by_role("alert")).to_be_hidden()
        expect(details.get_by_label("Key")).to_have_value("cost")

    chromium.run(steps)


def test_a_change_while_details_are_loaded_is_shown(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        found: list[dict[str, Any]] = [{}, {"tag": [TAG]}]
        stub = stubbed(page, listTags=lambda _call: found.pop(0))
        stub.log_in()
        stub.hold("listTags")
        press(page.get_by_role("button", name="one", exact=True))
        stub.changed("resource_tags")
        stub.release("listTags")
        expect(page.locator("#details tbody tr")).to_contain_text("env")

    chromium.run(steps)


def test_a_domain_administrator_changes_only_what_is_beneath_the_domain(chromium: Chromium) -> None:
    templates = [template("public", "root"), template("ours", "beneath")]

    def domains(call: dict[str, str]) -> dict[str, Any]:
        return {"domain": [{"id": "beneath"}]} if call["id"] == "beneath" else {}

    def steps(page: Page) -> None:
        stub = stubbed(
            page, listTemplates={"template": templates, "count": 2}, listTags={}, listDomains=domains
        )
        stub.user["type"] = "2"
        stub.log_in()
        for name, tags, forms in (("public", 1, 0), ("ours", 0, 2)):
            details = open_details(page, name)
            expect(details.locator("tbody tr")).to_have_count(tags)
            expect(details.locator("form:visible")).to_have_count(forms)
            page.keyboard.press("Escape")
            expect(details).to_be_hidden()

    chromium.run(steps)
