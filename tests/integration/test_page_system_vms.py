# SPDX-License-Identifier: Apache-2.0
"""System VMs on the page without a daemon: what is done to one that runs."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from accessibility import violations_light_and_dark
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import ORIGIN, RefusedError, StubbedPage, chromium
from integration.page_user import press

pytestmark = pytest.mark.timeout(240)

__all__ = ["chromium"]  # the fixture

RUNNING = {"id": "s", "name": "s-1-VM", "systemvmtype": "secondarystoragevm", "state": "Running"}
STOPPED = {"id": "v", "name": "v-2-VM", "systemvmtype": "consoleproxy", "state": "Stopped"}
ZIP = "/diagnostics/token/s-1-VM.zip"


def test_a_system_vm_is_patched_and_gives_its_logs_by_keyboard(chromium: Chromium) -> None:
    jobs: dict[str, Any] = {
        "getDiagnosticsData": {"diagnostics": {"url": f"https://elsewhere.example.test{ZIP}"}},
        "patchSystemVm": {"systemvm": RUNNING},
    }

    def steps(page: Page) -> None:
        def download(route: Route) -> None:
            route.fulfill(body=b"PK", headers={"Content-Disposition": "attachment"})

        page.route(f"{ORIGIN}{ZIP}", download)
        stub = StubbedPage(
            page,
            listSystemVms={"systemvm": [RUNNING, STOPPED], "count": 2},
            rebootSystemVm={"jobid": "rebootSystemVm"},
            queryAsyncJobResult=lambda call: {"jobstatus": 1, "jobresult": jobs[call["jobid"]]},
            **{name: {"jobid": name} for name in jobs},
        )
        stub.log_in()
        open_section(page, "System VMs")
        card = page.locator(".card", has_text="s-1-VM")
        assert violations_light_and_dark(page) == []
        with page.expect_download() as saved:
            press(card.get_by_role("button", name="Logs"))
        assert saved.value.url == f"{ORIGIN}{ZIP}"
        press(card.get_by_role("button", name="Patch…"))
        press(page.locator("#confirm").get_by_role("button", name="Patch"))
        expect(page.locator("#toasts")).to_contain_text("s-1-VM has the agent of this daemon")
        assert [call["id"] for call in stub.calls if call["command"] == "patchSystemVm"] == ["s"]
        for name in ("Logs", "Patch…"):
            expect(page.locator(".card", has_text="v-2-VM").get_by_role("button", name=name)).to_have_count(0)

    chromium.run(steps)


def test_a_patch_that_fails_says_why_and_a_role_without_it_has_no_button(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(
            page, listSystemVms={"systemvm": [RUNNING], "count": 1}, patchSystemVm=RefusedError(530)
        )
        stub.log_in()
        open_section(page, "System VMs")
        card = page.locator(".card", has_text="s-1-VM")
        expect(card.get_by_role("button", name="Logs")).to_have_count(0)
        press(card.get_by_role("button", name="Patch…"))
        press(page.locator("#confirm").get_by_role("button", name="Patch"))
        expect(page.locator("#toasts .bad")).to_be_visible()
        expect(card.get_by_role("button", name="Patch…")).to_be_enabled()

    chromium.run(steps)
