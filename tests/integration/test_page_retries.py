# SPDX-License-Identifier: Apache-2.0
"""How the page goes on after calls that were refused or lost, without a daemon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import RefusedError, StubbedPage, chromium

pytestmark = pytest.mark.timeout(120)

__all__ = ["chromium"]  # the fixture

VOLUME = {"id": "v", "name": "data", "type": "DATADISK", "state": "Ready", "size": 1, "account": "una"}
FOUND = {"volume": [VOLUME], "count": 1}


def after(refusals: list[RefusedError], answer: dict[str, Any]) -> Callable[[dict[str, str]], dict[str, Any]]:
    """Refuse the first calls."""

    def respond(_call: dict[str, str]) -> dict[str, Any]:
        if refusals:
            raise refusals.pop(0)
        return answer

    return respond


def test_a_list_says_why_it_was_refused_and_is_not_busy(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, listVolumes=FOUND)
        stub.log_in()
        stub.answers["listVolumes"] = RefusedError(431)
        page.get_by_role("button", name="Name", exact=True).click()
        expect(page.locator("#volumes [role=alert]")).to_have_text("refused")
        expect(page.locator("#volumes")).to_have_attribute("aria-busy", "false")

    chromium.run(steps)


@pytest.mark.parametrize("code", [0, 429, 503])
def test_a_list_is_loaded_again_when_its_refusal_passes(chromium: Chromium, code: int) -> None:
    def steps(page: Page) -> None:
        refusal = RefusedError(code, **{"Retry-After": "1"})
        stub = StubbedPage(page, listVolumes=after([refusal], FOUND))
        stub.log_in()
        expect(page.locator("#volumes .row")).to_contain_text("data")
        assert stub.count("listVolumes") == 2

    chromium.run(steps)


def test_a_job_is_followed_when_questions_about_it_are_lost(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        done = {"jobstatus": 1, "jobresult": {}}
        refusals = [RefusedError(), RefusedError(429, **{"Retry-After": "1"}), RefusedError(503)]
        stub = StubbedPage(
            page,
            listVolumes=FOUND,
            listDiskOfferings={},
            createVolume={"jobid": "j"},
            queryAsyncJobResult=after(refusals, done),
        )
        stub.log_in()
        page.click("#open-volume")
        page.locator("#fields").get_by_label("Name").fill("one")
        page.locator("#fields").get_by_role("button", name="Create").click()
        expect(page.locator("#toasts")).to_have_text("one is created.")

    chromium.run(steps)
