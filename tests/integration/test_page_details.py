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
