# SPDX-License-Identifier: Apache-2.0
"""Volumes and snapshots on the page of a real daemon, whose answers about disks a test gives."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from accessibility import violations
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, shared_host
from integration.page_user import agree, chromium, press
from integration.page_visitor import Visitor

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "shared_host"]  # fixtures

CREATED = "2026-11-29T20:00:00+0000"
OF_ADMIN = {"account": "admin", "created": CREATED}
ROOT = {
    "id": "v-r",
    "name": "ROOT-3",
    "type": "ROOT",
    "state": "Ready",
    "size": 2 << 30,
    "virtualmachineid": "m-1",
    "vmdisplayname": "web",
    "vmstate": "Running",
    **OF_ADMIN,
}
DATA = {"id": "v-d", "name": "data", "type": "DATADISK", "state": "Ready", "size": 1 << 30, **OF_ADMIN}
NEW = {**DATA, "id": "v-n", "name": "new", "state": "Creating"}
SNAPSHOT = {
    "id": "s-1",
    "name": "before",
    "state": "BackedUp",
    "volumename": "data",
    "zoneid": "z",
    "snapshottype": "MANUAL",
    "revertable": True,
    "physicalsize": 1 << 20,
    **OF_ADMIN,
}
FAILURE = {"reason": "the store is full", "hint": "add one"}
BROKEN = {**SNAPSHOT, "id": "s-2", "name": "broken", "state": "Error", **FAILURE}
MACHINE = {"id": "m-1", "name": "web", "displayname": "web", "state": "Running", "hypervisor": "KVM"}
DONE = {"jobstatus": 1, "jobresult": {"success": True}}
LISTS: dict[str, dict[str, Any]] = {
    "listVolumes": {"volume": [ROOT, DATA, NEW], "count": 3},
    "listSnapshots": {"snapshot": [SNAPSHOT, BROKEN], "count": 2},
    "listSnapshotPolicies": {"snapshotpolicy": []},
    "listVirtualMachines": {"virtualmachine": [MACHINE], "count": 1},
    "queryAsyncJobResult": DONE,
}
ASYNC = ("createVolume", "attachVolume", "detachVolume", "resizeVolume", "createSnapshot", "revertSnapshot",
         "createTemplate", "deleteSnapshot", "copySnapshot")  # fmt: skip


def answer(call: dict[str, str]) -> dict[str, Any] | None:
    command = call["command"]
    if command in ASYNC:
        return {"jobid": "j-1", "id": "x"}
    if command in ("deleteVolume", "createSnapshotPolicy"):
        return {"success": True}
    return LISTS.get(command)


def offered(row: Locator) -> list[str]:
    return row.locator("[data-action]").all_inner_texts()


def test_volumes_are_created_attached_enlarged_and_deleted_by_keyboard(
    shared_host: Host, chromium: Chromium
) -> None:
    visitor = Visitor(shared_host, answer)

    def sent(command: str) -> dict[str, str]:
        [call] = [call for call in visitor.calls if call["command"] == command]
        return {key: value for key, value in call.items() if key not in ("command", "response", "sessionkey")}

    def submit(page: Page, label: str, value: str, verb: str) -> None:
        dialog = page.locator("#fields")
        dialog.get_by_label(label).fill(value)
        assert violations(page) == []
        press(dialog.get_by_role("button", name=verb, exact=True))
        expect(dialog).to_be_hidden()

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Volumes")
        rows = page.locator("#volumes .row")
        root, new = rows.filter(has_text="ROOT-3"), rows.filter(has_text="Creating")
        data = rows.filter(has_text="data disk").filter(has_text="Ready")
        expect(root).to_contain_text("2.0 GiB")
        assert offered(root) == ["Resize…", "Snapshot…", "Policies…"]
        of_data = ["Attach…", "Resize…", "Move…", "Snapshot…", "Policies…", "Download…", "Delete"]
        assert offered(data) == of_data
        assert offered(new) == []
        assert violations(page) == []

        press(page.get_by_role("button", name="Create…"))
        submit(page, "Name", "more", "Create")
        assert sent("createVolume").items() >= {"name": "more", "size": "1"}.items()
        press(data.get_by_role("button", name="Attach…"))
        dialog = page.locator("#fields")
        expect(dialog.get_by_label("Virtual machine")).to_have_value("m-1")
        press(dialog.get_by_role("button", name="Attach"))
        expect(dialog).to_be_hidden()
        assert sent("attachVolume") == {"id": "v-d", "virtualmachineid": "m-1"}
        press(root.get_by_role("button", name="Resize…"))
        submit(page, "Size in GiB", "4", "Resize")
        assert sent("resizeVolume") == {"id": "v-r", "size": "4"}
        press(data.get_by_role("button", name="Snapshot…"))
        submit(page, "Name", "now", "Take snapshot")
        assert sent("createSnapshot") == {"volumeid": "v-d", "name": "now"}
        press(data.get_by_role("button", name="Policies…"))
        page.get_by_label("Interval").select_option("weekly")
        page.get_by_label("Day of the week").fill("2")
        press(page.get_by_role("button", name="Add schedule"))
        expect(page.locator("#policies")).to_be_hidden()
        assert (
            sent("createSnapshotPolicy").items() >= {"schedule": "00:03:2", "intervaltype": "weekly"}.items()
        )
        press(data.get_by_role("button", name="Delete"))
        with page.expect_response(lambda answered: "deleteVolume" in (answered.request.post_data or "")):
            press(page.locator("#confirm button.danger"))
        assert sent("deleteVolume") == {"id": "v-d"}

    chromium.run(steps)


def test_snapshots_are_reverted_made_into_volumes_and_templates_and_deleted(
    shared_host: Host, chromium: Chromium
) -> None:
    visitor = Visitor(shared_host, answer)

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Snapshots")
        good = page.locator("#snapshots .row", has_text="before")
        bad = page.locator("#snapshots .row", has_text="broken")
        expect(bad).to_contain_text("the store is full")
        assert offered(bad) == ["Delete"]
        assert offered(good) == ["Revert", "Make volume…", "Make template…", "Download…", "Copy…", "Delete"]
        for button, verb in (("Make volume…", "Make volume"), ("Make template…", "Make template")):
            press(good.get_by_role("button", name=button))
            page.locator("#fields").get_by_label("Name").fill("made")
            press(page.locator("#fields").get_by_role("button", name=verb))
            expect(page.locator("#fields")).to_be_hidden()
        for button in ("Revert", "Delete"):
            press(good.get_by_role("button", name=button))
            agree(page, good)
        press(good.get_by_role("button", name="Copy…"))
        expect(page.locator("#fields").get_by_label("Zone").locator("option")).to_have_count(1)
        press(page.locator("#fields").get_by_role("button", name="Copy"))
        expect(page.locator("#fields")).to_be_hidden()
        assert {"createVolume", "createTemplate", "revertSnapshot", "copySnapshot"} <= {*visitor.commands}

    chromium.run(steps)
