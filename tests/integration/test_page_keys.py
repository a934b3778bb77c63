# SPDX-License-Identifier: Apache-2.0
"""API keys of a user on the page of a real daemon, by keyboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host
from integration.page_user import add_account, chromium, log_in, press

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "host"]  # fixtures


def test_a_user_makes_and_ends_an_api_key_by_keyboard(host: Host, chromium: Chromium) -> None:
    host.start()
    add_account(host, "ulla")

    def steps(page: Page) -> None:
        log_in(page, host, "ulla")
        assert violations(page) == []
        press(page.get_by_role("button", name="API keys…"))
        dialog, secret = page.locator("#keys"), page.locator("#secret")
        dialog.get_by_label("Name").fill("backup")
        dialog.get_by_label("Commands").fill("list*")
        page.keyboard.press("Enter")
        expect(secret).to_be_visible()
        assert len(secret.get_by_label("Secret key", exact=True).input_value()) >= 64
        assert violations(page) == []
        press(secret.get_by_role("button", name="I have it"))
        expect(secret.locator("input")).to_have_count(0)
        press(page.get_by_role("button", name="API keys…"))
        expect(dialog.locator("tbody tr")).to_have_count(1)
        expect(dialog.locator("tbody tr")).to_contain_text("list*")
        assert violations(page) == []
        press(dialog.get_by_role("button", name="Delete backup"))
        expect(dialog.locator("tbody tr")).to_have_count(0)
        expect(dialog.get_by_label("Name")).to_be_focused()

    chromium.run(steps)
