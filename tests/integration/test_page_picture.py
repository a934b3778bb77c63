# SPDX-License-Identifier: Apache-2.0
"""The picture of the zone on the page of a real daemon."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations_light_and_dark
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host
from integration.page_user import chromium
from integration.page_visitor import Visitor

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "host"]  # fixtures


def daemon_answers(call: dict[str, str]) -> Any:
    return None


def test_an_administrator_sees_the_zone_and_what_changes_in_it(host: Host, chromium: Chromium) -> None:
    host.start()
    [zone] = host.call("listZones")["zone"]

    def steps(page: Page) -> None:
        Visitor(host, daemon_answers).open(page)
        open_section(page, "Picture of the zone")
        picture = page.locator("#picture")
        expect(picture.get_by_role("group", name=f"Picture of zone {zone['name']}")).to_be_visible()
        for name in ("Control", "Management", "Public", "Guest"):
            expect(picture.locator(".lane", has_text=name)).to_be_visible()
        expect(picture.locator(".lane", has_text="Public")).to_contain_text("bridge cloudbr0")
        expect(picture.get_by_label("Storage pool")).to_contain_text("✓ Up")
        expect(picture.get_by_label("Host")).to_contain_text("CPU")
        assert violations_light_and_dark(page) == []
        store = picture.get_by_label("Image store")
        store.focus()
        with sqlite3.connect(host.layout.database, timeout=60) as database:
            database.execute("UPDATE image_stores SET capacity_bytes = 100, used_bytes = 99")
        expect(store).to_contain_text("✕ Full")
        expect(store).to_be_focused()
        page.get_by_text("The same as a list").click()
        expect(page.locator("#picture-outline")).to_contain_text("✕ Full: gets nothing new")
        assert violations_light_and_dark(page) == []
        page.set_viewport_size({"width": 360, "height": 700})
        assert picture.evaluate(
            "box => box.getBoundingClientRect().right <= innerWidth && box.scrollWidth > box.clientWidth"
        )
        assert violations_light_and_dark(page) == []

    chromium.run(steps)


def test_another_zone_is_chosen(host: Host, chromium: Chromium) -> None:
    host.start()
    host.call(
        "createZone", name="second", dns1="192.0.2.53", internaldns1="192.0.2.53", networktype="Advanced"
    )

    def steps(page: Page) -> None:
        Visitor(host, daemon_answers).open(page)
        open_section(page, "Picture of the zone")
        page.get_by_role("combobox", name="Zone", exact=True).select_option("second")
        expect(page.get_by_role("group", name="Picture of zone second")).to_be_visible()
        expect(page.locator("#picture .lane")).to_have_count(0)

    chromium.run(steps)
