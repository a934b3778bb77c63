# SPDX-License-Identifier: Apache-2.0
"""Dialogs of the page that open while others are open, without a daemon."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import RefusedError, StubbedPage, chromium

pytestmark = pytest.mark.timeout(120)

__all__ = ["chromium"]  # the fixture

ANSWERS = """async (questions) => {
  const { ask } = await import("./ui.js");
  window.answers = [];
  for (const each of questions) ask(each, "", "Yes").then((answer) => window.answers.push([each, answer]));
}"""


def test_a_question_waits_for_the_one_that_is_open(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        StubbedPage(page, listVirtualMachines={}).log_in()
        page.evaluate(ANSWERS, ["first?", "second?"])
        dialog = page.locator("#confirm")
        expect(dialog.locator("h2")).to_have_text("first?")
        dialog.locator(".danger").click()
        expect(dialog.locator("h2")).to_have_text("second?")
        assert page.evaluate("window.answers") == [["first?", True]]
        page.keyboard.press("Escape")
        page.wait_for_function("window.answers.length === 2")
        assert page.evaluate("window.answers") == [["first?", True], ["second?", False]]

    chromium.run(steps)


def test_a_password_that_comes_meanwhile_answers_no_question(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        machine = {"id": "m-1", "name": "db-1", "state": "Destroyed", "hypervisor": "KVM"}
        running = {"jobstatus": 0}
        stub = StubbedPage(
            page,
            listVirtualMachines={"virtualmachine": [machine], "count": 1},
            listTemplates={"template": [{"id": "t", "name": "tiny", "format": "QCOW2"}]},
            listServiceOfferings={"serviceoffering": [{"id": "o", "name": "small"}]},
            deployVirtualMachine={"jobid": "j"},
            expungeVirtualMachine={"jobid": "j"},
            queryAsyncJobResult=running,
        )
        stub.log_in()
        page.get_by_role("link", name="Virtual machines").click()
        page.click("#open-deploy")
        page.fill("#fields [name=name]", "web")
        page.click("#fields button.primary")
        page.get_by_role("button", name="Expunge").click()
        password = {"virtualmachine": {"name": "web", "password": "a2b3c4"}}
        stub.answers["queryAsyncJobResult"] = {"jobstatus": 1, "jobresult": password}
        stub.changed("async_jobs")
        shown = page.locator("#secret")
        expect(shown.get_by_label("Password", exact=True)).to_have_value("a2b3c4")
        page.keyboard.press("Enter")  # meant for the question
        expect(shown).to_be_visible()
        expect(page.locator("#confirm h2")).to_have_text("Expunge db-1?")
        shown.get_by_role("button", name="I have it").click()
        expect(shown).to_be_hidden()
        assert "a2b3c4" not in page.content()
        expect(shown.locator("input")).to_have_count(0)
        page.locator("#confirm").get_by_role("button", name="Cancel").click()
        expect(page.locator("#confirm")).to_be_hidden()
        assert stub.count("expungeVirtualMachine") == 0

    chromium.run(steps)


VOLUME = {"id": "v", "name": "data", "type": "DATADISK", "state": "Ready", "size": 1 << 30, "account": "una"}
LISTS = {"listVolumes": {"volume": [VOLUME], "count": 1}, "listDiskOfferings": {}}


def test_a_late_result_does_not_close_the_next_use_of_a_dialog(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        done = {"jobstatus": 1, "jobresult": {}}
        stub = StubbedPage(page, **LISTS, createVolume={"jobid": "j"}, queryAsyncJobResult=done)
        stub.log_in()
        dialog = page.locator("#fields")
        name, create = dialog.get_by_label("Name"), dialog.get_by_role("button", name="Create")
        page.click("#open-volume")
        name.fill("one")
        stub.hold("createVolume")
        create.click()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        page.click("#open-volume")
        expect(create).to_be_enabled()
        name.fill("two")
        stub.release("createVolume")
        expect(page.locator("#toasts")).to_contain_text("one is created.")
        expect(name).to_have_value("two")
        create.click()
        expect(page.locator("#toasts")).to_contain_text("two is created.")
        expect(dialog).to_be_hidden()

    chromium.run(steps)


def test_an_error_before_a_dialog_opens_is_shown(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        StubbedPage(page, **LISTS, attachVolume={}, listVirtualMachines=RefusedError(431)).log_in()
        page.get_by_role("link", name="Volumes").click()
        page.get_by_role("button", name="Attach…").click()
        expect(page.locator("#toasts")).to_have_text("refused")

    chromium.run(steps)
