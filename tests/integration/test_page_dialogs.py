# SPDX-License-Identifier: Apache-2.0
"""Dialogs of the page that open while others are open, without a daemon."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import Answer, RefusedError, StubbedPage, chromium, shown_anywhere
from integration.page_user import press

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
        page.evaluate("settled()")
        shown, question = page.locator("#secret"), page.locator("#confirm")
        expect(question.locator("h2")).to_have_text("Expunge db-1?")
        page.keyboard.press("Escape")  # meant for the question
        expect(question).to_be_hidden()
        expect(shown.get_by_label("Password", exact=True)).to_have_value("a2b3c4")
        for key in ("Escape", "Escape", "Enter"):  # a browser lets a page refuse the first one only
            page.keyboard.press(key)
        expect(shown.get_by_label("Password", exact=True)).to_have_value("a2b3c4")
        shown.get_by_role("button", name="I have it").click()
        expect(shown).to_be_hidden()
        expect(shown.locator("input")).to_have_count(0)  # the event of its closing comes a moment later
        assert "a2b3c4" not in shown_anywhere(page)
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


def test_a_list_that_comes_after_the_logout_opens_nothing(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, **LISTS, createVolume={})
        stub.log_in()
        stub.hold("listDiskOfferings")
        page.click("#open-volume")
        stub.answers["listVolumes"] = RefusedError(401)
        stub.changed("volumes")
        expect(page.locator("#login")).to_be_visible()
        released(stub, "listDiskOfferings")
        expect(page.locator("dialog[open]")).to_have_count(0)
        assert page.locator("#fields .fields").inner_text() == ""

    chromium.run(steps)


def released(stub: StubbedPage, command: str) -> None:
    """Release a command's calls, and return when the page has dealt with the answers."""
    stub.release(command)
    stub.page.evaluate("settled()")


@pytest.mark.parametrize("opener", ["volume-policies", "volume-attach", "volume-migrate"])
def test_a_late_list_does_not_swap_what_the_user_fills_in(chromium: Chromium, opener: str) -> None:
    def steps(page: Page) -> None:
        machines = {"virtualmachine": [{"id": "m", "name": "web"}]}
        stub = StubbedPage(
            page,
            **LISTS,
            createVolume={},
            listSnapshotPolicies={},
            attachVolume={},
            migrateVolume={},
            listVirtualMachines=machines,
            listStoragePools={"storagepool": [{"id": "p", "name": "nfs"}]},
        )
        stub.log_in()
        page.get_by_role("link", name="Volumes").click()
        late = {"volume-policies": "listSnapshotPolicies", "volume-attach": "listVirtualMachines"}
        held = late.get(opener, "listStoragePools")
        stub.hold(held)
        page.click(f"[data-action={opener}]")
        page.click("#open-volume")
        name = page.locator("#fields").get_by_label("Name")
        name.fill("one")
        released(stub, held)
        expect(page.locator("#fields h2")).to_have_text("Create a volume")
        expect(name).to_have_value("one")
        expect(page.locator("dialog[open]")).to_have_count(1)
        page.keyboard.press("Escape")
        expect(page.locator("dialog[open]")).to_have_count(0)

    chromium.run(steps)


def test_a_double_click_keeps_what_is_typed(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, **LISTS, createVolume={})
        stub.log_in()
        page.get_by_role("link", name="Volumes").click()
        page.click("#open-volume")
        name = page.locator("#fields").get_by_label("Name")
        name.fill("one")
        page.evaluate("document.querySelector('#open-volume').click()")
        page.evaluate("settled()")
        expect(name).to_have_value("one")

    chromium.run(steps)


def test_a_submit_that_ends_late_closes_only_its_own_dialog(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        machines = {"virtualmachine": [{"id": "m", "name": "web"}]}
        stub = StubbedPage(
            page, **LISTS, createVolume=RefusedError(431), attachVolume={}, listVirtualMachines=machines
        )
        stub.log_in()
        page.get_by_role("link", name="Volumes").click()
        stub.hold("listVirtualMachines")
        page.get_by_role("button", name="Attach…").click()
        page.click("#open-volume")
        dialog = page.locator("#fields")
        name = dialog.get_by_label("Name")
        name.fill("one")
        stub.hold("createVolume")
        dialog.get_by_role("button", name="Create").click()
        stub.release("listVirtualMachines")
        released(stub, "createVolume")
        expect(dialog.locator("h2")).to_have_text("Create a volume")
        expect(dialog.get_by_role("alert")).to_have_text("refused")
        expect(name).to_have_value("one")

    chromium.run(steps)


def test_an_action_keeps_the_place_of_the_keyboard(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        done = {"jobstatus": 1, "jobresult": {}}
        stub = StubbedPage(
            page, **LISTS, deleteVolume={}, resizeVolume={"jobid": "j"}, queryAsyncJobResult=done
        )
        stub.log_in()
        page.get_by_role("link", name="Volumes").click()
        row, question = page.locator("#volumes .row"), page.locator("#confirm")
        resize, delete = row.get_by_role("button", name="Resize…"), row.get_by_role("button", name="Delete")
        press(resize)
        stub.hold("resizeVolume")
        page.keyboard.press("Enter")
        stub.answers["listVolumes"] = {"volume": [{**VOLUME, "size": 2 << 30}], "count": 1}
        stub.changed("volumes")
        expect(row).to_contain_text("2.0 GiB")  # drawn again, also the button that has opened the dialog
        stub.release("resizeVolume")
        expect(page.locator("#fields")).to_be_hidden()
        expect(resize).to_be_focused()
        press(delete)
        stub.hold("deleteVolume")
        press(question.locator("button.danger"))
        expect(row).to_contain_text("Deleting…")
        expect(delete).to_be_focused()
        expect(delete).to_be_disabled()
        page.keyboard.press("Enter")
        stub.answers["listVolumes"] = {}
        stub.release("deleteVolume")
        expect(row).to_have_count(0)
        expect(page.get_by_role("heading", name="Volumes")).to_be_focused()
        expect(question).to_be_hidden()
        assert stub.count("deleteVolume") == 1

    chromium.run(steps)


def test_a_row_shows_what_is_being_done_before_the_daemon_answers(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        network = {"id": "n", "name": "lab", "type": "Isolated", "state": "Implemented"}
        stub = StubbedPage(
            page,
            listNetworks={"network": [network], "count": 1},
            restartNetwork={"jobid": "j"},
            queryAsyncJobResult={"jobstatus": 1, "jobresult": {"success": True}},
        )
        stub.log_in()
        page.get_by_role("link", name="Networks").click()
        row = page.locator("#networks .row")
        stub.hold("restartNetwork")
        press(row.get_by_role("button", name="Restart"))
        stub.hold("listNetworks")
        press(page.locator("#confirm button.danger"))
        expect(row).to_contain_text("Restarting…")
        restart = row.get_by_role("button", name="Restart")
        expect(restart).to_be_disabled()
        restart.press("Enter")
        expect(page.locator("#confirm")).to_be_hidden()
        for command in ("restartNetwork", "listNetworks"):
            stub.release(command)
        expect(restart).to_be_enabled()
        assert stub.count("restartNetwork") == 1

    chromium.run(steps)


def test_a_cloud_without_a_zone_says_what_to_do(chromium: Chromium) -> None:
    images: dict[str, Answer] = {
        "listTemplates": {},
        "registerTemplate": {},
        "getUploadParamsForTemplate": {},
    }

    def steps(page: Page) -> None:
        stub = StubbedPage(page, **LISTS, **images, listZones={}, createVolume={}, uploadVolume={})
        stub.log_in()
        told = page.locator("#toasts .bad")
        for section, openers in (
            ("Templates and ISOs", ("open-upload", "open-register")),
            ("Volumes", ("open-volume", "open-volume-url")),
        ):
            page.get_by_role("link", name=section).click()
            for opener in openers:
                stub.forget_messages()
                page.click(f"#{opener}")
                expect(told).to_contain_text("under Infrastructure")
                expect(page.locator("dialog[open]")).to_have_count(0)

    chromium.run(steps)


def test_a_submit_after_the_session_shows_the_login(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, **LISTS, createVolume=RefusedError(401))
        stub.log_in()
        page.get_by_role("link", name="Volumes").click()
        dialog = page.locator("#fields")
        page.click("#open-volume")
        dialog.get_by_label("Name").fill("one")
        dialog.get_by_role("button", name="Create").click()
        expect(dialog.get_by_role("alert")).to_have_text("refused")  # what is not allowed is no end
        page.evaluate("settled()")  # the list that the refusal has loaded again is not refused
        stub.answers["listVolumes"] = RefusedError(401)
        dialog.get_by_role("button", name="Create").click()
        expect(page.locator("#login")).to_be_visible()
        expect(dialog).to_be_hidden()
        expect(dialog.locator("input")).to_have_count(0)

    chromium.run(steps)


def test_only_networks_that_there_are_are_offered(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        own = {"id": "n", "name": "own", "isdefault": True}
        backend = {"id": "b", "name": "backend", "isdefault": False}
        networks = {"network": [own, backend]}
        stub = StubbedPage(page, listVirtualMachines={}, deployVirtualMachine={}, listNetworks=networks)
        stub.log_in()
        offered = page.locator("#fields").get_by_label("Network").locator("option")
        page.click("#open-deploy")
        expect(offered).to_have_text(["the zone's own", "backend"])
        page.keyboard.press("Escape")
        stub.answers["listNetworks"] = {"network": [backend]}
        page.click("#open-deploy")
        expect(offered).to_have_text(["backend"])

    chromium.run(steps)


def test_a_long_name_stays_in_its_dialog(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        name = "n" * 255
        found = {"volume": [{**VOLUME, "name": name}], "count": 1}
        StubbedPage(page, listVolumes=found, listDiskOfferings={}, resizeVolume={}, deleteVolume={}).log_in()
        page.get_by_role("link", name="Volumes").click()
        for button, dialog in (("Resize…", "#fields"), ("Delete", "#confirm")):
            page.get_by_role("button", name=button).click()
            shown = page.locator(dialog)
            expect(shown).to_be_visible()
            expect(shown.locator("h2 bdi")).to_have_text(name)  # its direction changes no other text
            assert shown.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth"), dialog
            page.keyboard.press("Escape")

    chromium.run(steps)


#: The event of a dialog's close waits for a frame, before which it can be open again.
OPENED_AGAIN = """async () => {
  const [upload, factor] = document.querySelectorAll("#certificate-upload, #second-factor");
  const closed = (dialog) => new Promise((done) => {
    dialog.addEventListener("close", () => setTimeout(done), { once: true });
  });
  const [key, secret] = [upload.querySelector("[name=privatekey]"), factor.querySelector(".secret")];
  key.value = "of before";
  const late = closed(upload);
  upload.close();
  document.querySelector("#open-certificate").click();
  const left = key.value;
  key.value = "typed";
  await late;
  const kept = key.value;
  upload.close();
  factor.showModal();
  const again = closed(factor);
  factor.close();
  secret.textContent = "new";
  factor.showModal();
  await again;
  return [left, kept, secret.textContent];
}"""


def test_a_dialog_that_is_opened_again_at_once_shows_what_is_new_only(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        StubbedPage(page, listPublicNames={}, uploadCustomCertificate={}).log_in()
        page.click("#open-certificate")
        assert page.evaluate(OPENED_AGAIN) == ["", "typed", "new"]

    chromium.run(steps)
