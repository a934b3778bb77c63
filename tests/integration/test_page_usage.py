# SPDX-License-Identifier: Apache-2.0
"""When the page loads sums of the usage, without a daemon."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import StubbedPage, chromium

pytestmark = pytest.mark.timeout(120)

__all__ = ["chromium"]  # the fixture

SUMS_MS = 30_000
ROW = {
    "accountid": "a", "account": "una", "domain": "ROOT", "domainid": "d",
    "storedbytes": 1024, "servedbytes": 0, "consoleminutes": 3,
}  # fmt: skip


def test_sums_are_loaded_when_the_section_opens_and_then_rarely(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        page.clock.install()
        usage = {"accountusage": [ROW], "count": 1}
        stub = StubbedPage(page, listAccountUsage=usage, listVolumes={})
        stub.log_in()

        def loaded() -> tuple[int, int]:
            """Return how often the list was loaded, and how often the sums."""
            calls = [call for call in stub.calls if call["command"] == "listAccountUsage"]
            sums = sum(call["pagesize"] == "500" for call in calls)
            return len(calls) - sums, sums

        def expect_stored(stored: str) -> None:
            for place in ("#usage-sums", "#usage .row"):
                expect(page.locator(place)).to_contain_text(stored)

        page.get_by_role("link", name="Usage").click()
        expect(page.locator("#usage-sums")).to_contain_text("1 account:")
        expect_stored("1.0 KiB")
        assert loaded() == (1, 1)
        for number in (2, 3):
            with page.expect_response(lambda answer: "listAccountUsage" in (answer.request.post_data or "")):
                stub.changed("served_bytes")
            assert loaded() == (number, 1)
        stub.answers["listAccountUsage"] = {"accountusage": [ROW | {"storedbytes": 2048}], "count": 1}
        page.clock.fast_forward(SUMS_MS)
        expect_stored("2.0 KiB")
        assert loaded() == (4, 2)
        page.get_by_role("link", name="Volumes").click()
        expect(page.locator("#volumes .empty")).to_be_visible()
        stub.answers["listAccountUsage"] = usage
        page.get_by_role("link", name="Usage").click()
        expect_stored("1.0 KiB")
        assert loaded() == (5, 3)

    chromium.run(steps)
