# SPDX-License-Identifier: Apache-2.0
"""Passwords of machines on the page: asked for where a guest takes one, and shown once. Without a daemon."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations
from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import StubbedPage, chromium, shown_anywhere
from integration.page_user import press

pytestmark = pytest.mark.timeout(240)

__all__ = ["chromium"]  # the fixture

STOPPED = {"id": "m", "name": "web", "state": "Stopped", "hypervisor": "KVM", "passwordenabled": True}
MACHINES = [
    STOPPED,
    {**STOPPED, "id": "n", "name": "db", "state": "Running"},
    {**STOPPED, "id": "o", "name": "old", "passwordenabled": False},
]
PASSWORD = "a2b3c4"
RESET = {"virtualmachine": {"name": "web", "displayname": "shop", "password": PASSWORD}}


def test_a_stopped_machine_gets_a_password_that_is_shown_once(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(
            page,
            listVirtualMachines={"virtualmachine": MACHINES, "count": 3},
            resetPasswordForVirtualMachine={"jobid": "j"},
            queryAsyncJobResult={"jobstatus": 1, "jobresult": RESET},
        )
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        stub.log_in()
        reset = page.locator("#vms").get_by_role("button", name="Reset password…")
        expect(reset).to_have_count(1)
        press(reset)
        expect(page.locator("#confirm h2")).to_have_text("Reset the password of web?")
        press(page.locator("#confirm button.danger"))
        shown = page.locator("#secret")
        expect(shown.get_by_label("Virtual machine")).to_have_value("shop")
        expect(shown.get_by_label("Password", exact=True)).to_have_value(PASSWORD)
        assert violations(page) == []
        press(shown.get_by_role("button", name="Copy Password"))
        expect(page.locator("#toasts")).to_contain_text("Copied.")
        assert page.evaluate("navigator.clipboard.readText()") == PASSWORD
        assert PASSWORD in shown_anywhere(page)
        press(shown.get_by_role("button", name="I have it"))
        expect(shown).to_be_hidden()
        expect(shown.locator("input")).to_have_count(0)  # the event of its closing comes a moment later
        assert PASSWORD not in shown_anywhere(page)
        [call] = [call for call in stub.calls if call["command"] == "resetPasswordForVirtualMachine"]
        assert call["id"] == "m"

    chromium.run(steps)


def test_a_password_that_was_lost_is_missed_aloud(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        machine = {key: value for key, value in RESET["virtualmachine"].items() if key != "password"}
        images = [{"id": "t", "name": "tiny", "format": "QCOW2", "passwordenabled": True}]
        stub = StubbedPage(
            page,
            listVirtualMachines={"virtualmachine": MACHINES, "count": 3},
            listTemplates={"template": [*images, {"id": "u", "name": "plain", "format": "QCOW2"}]},
            listServiceOfferings={"serviceoffering": [{"id": "o", "name": "small"}]},
            resetPasswordForVirtualMachine={"jobid": "j"},
            deployVirtualMachine={"jobid": "j"},
            queryAsyncJobResult={"jobstatus": 1, "jobresult": {"virtualmachine": machine}},
        )
        stub.log_in()
        page.get_by_role("link", name="Virtual machines").click()
        missed = page.locator("#toasts .bad")
        press(page.locator("#vms").get_by_role("button", name="Reset password…"))
        press(page.locator("#confirm button.danger"))
        expect(missed).to_contain_text("reset it again")
        for template, count in (("tiny", 1), ("plain", 0)):  # a machine of a plain template has no password
            stub.forget_messages()
            page.click("#open-deploy")
            page.fill("#fields [name=name]", template)
            page.locator("#fields").get_by_label("From").select_option(label=f"{template} (QCOW2)")
            page.click("#fields button.primary")
            expect(page.locator("#fields")).to_be_hidden()
            page.evaluate("settled()")
            expect(missed).to_have_count(count)

    chromium.run(steps)


def test_a_role_that_must_not_is_offered_no_password(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        StubbedPage(page, listVirtualMachines={"virtualmachine": MACHINES, "count": 3}).log_in()
        expect(page.locator("#vms .row")).to_have_count(3)
        expect(page.locator("#vms").get_by_role("button", name="Reset password…")).to_have_count(0)
        for button in ("Password…", "API keys…", "Second factor…"):
            expect(page.locator("header").get_by_role("button", name=button)).to_be_hidden()

    chromium.run(steps)
