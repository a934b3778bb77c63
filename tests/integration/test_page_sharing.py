# SPDX-License-Identifier: Apache-2.0
"""Templates edited and shared, volumes from a URL and between pools, on the page without a daemon."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations
from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import StubbedPage, chromium
from integration.page_user import press

pytestmark = pytest.mark.timeout(240)

__all__ = ["chromium"]  # the fixture

DONE = {"success": True}
TEMPLATE: dict[str, Any] = {
    "id": "t", "name": "tiny", "format": "QCOW2", "isready": True, "passwordenabled": False, "zoneid": "z"
}  # fmt: skip
ZONES = [{"id": "z", "name": "here"}, {"id": "y", "name": "there"}]
VOLUME = {"id": "v", "name": "data", "type": "DATADISK", "state": "Ready", "size": 1 << 30, "storageid": "p"}
POOLS = [{"id": "p", "name": "here"}, {"id": "q", "name": "shared"}]


def sent(stub: StubbedPage, command: str) -> list[dict[str, str]]:
    common = ("command", "response", "sessionkey")
    of_command = [call for call in stub.calls if call["command"] == command]
    return [{key: value for key, value in call.items() if key not in common} for call in of_command]


def test_a_template_is_edited_copied_and_shared_with_accounts(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(
            page,
            listTemplates={"template": [TEMPLATE], "count": 1},
            listTemplatePermissions={"templatepermission": {"account": ["ada", "bob"]}},
            listZones={"zone": ZONES},
            updateTemplate=DONE,
            copyTemplate={"jobid": "j"},
            updateTemplatePermissions=DONE,
        )
        stub.log_in()
        rows, dialog = page.locator("#templates"), page.locator("#fields")
        press(rows.get_by_role("button", name="Edit…"))
        dialog.get_by_label("Name").fill("small")
        dialog.get_by_label("Its guests take passwords").check()
        assert violations(page) == []
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        assert sent(stub, "updateTemplate") == [{"id": "t", "name": "small", "passwordenabled": "true"}]
        press(rows.get_by_role("button", name="Copy…"))
        expect(dialog.get_by_label("Zone").locator("option")).to_have_text(["there"])
        press(dialog.get_by_role("button", name="Copy"))
        expect(dialog).to_be_hidden()
        assert sent(stub, "copyTemplate") == [{"id": "t", "destzoneid": "y"}]
        press(rows.get_by_role("button", name="Share…"))
        accounts = dialog.get_by_label("Accounts of its domain")
        expect(accounts).to_have_value("ada, bob")
        accounts.fill("bob, eve")
        dialog.get_by_label("Every account uses it").check()
        expect(dialog.get_by_label("It is featured")).to_have_count(0)  # for administrators
        assert violations(page) == []
        press(dialog.get_by_role("button", name="Save"))
        expect(dialog).to_be_hidden()
        assert sent(stub, "updateTemplatePermissions") == [
            {"id": "t", "ispublic": "true"},
            {"id": "t", "op": "add", "accounts": "eve"},
            {"id": "t", "op": "remove", "accounts": "ada"},
        ]

    chromium.run(steps)


def test_a_volume_is_made_of_a_file_and_moved_to_another_pool(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(
            page,
            listVolumes={"volume": [VOLUME], "count": 1},
            listStoragePools={"storagepool": POOLS},
            uploadVolume={"jobid": "j"},
            migrateVolume={"jobid": "j"},
            queryAsyncJobResult={"jobstatus": 1, "jobresult": {}},
        )
        stub.log_in()
        dialog = page.locator("#fields")
        press(page.get_by_role("button", name="From a URL…"))
        dialog.get_by_label("Name").fill("disk")
        dialog.get_by_label("URL").fill("https://images.example.test/disk.raw")
        dialog.get_by_label("Format").select_option("RAW")
        assert violations(page) == []
        press(dialog.get_by_role("button", name="Create"))
        expect(page.locator("#toasts")).to_contain_text("disk is being downloaded.")
        [upload] = sent(stub, "uploadVolume")
        assert upload.items() >= {"zoneid": "z", "format": "RAW", "name": "disk"}.items()
        press(page.locator("#volumes").get_by_role("button", name="Move…"))
        expect(dialog.get_by_label("Storage pool").locator("option")).to_have_text(["shared"])
        press(dialog.get_by_role("button", name="Move"))
        expect(dialog).to_be_hidden()
        assert sent(stub, "migrateVolume") == [{"volumeid": "v", "storageid": "q"}]

    chromium.run(steps)
