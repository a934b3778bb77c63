# SPDX-License-Identifier: Apache-2.0
"""Storage pools on the page without a daemon, and what moves between them."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations_light_and_dark
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import StubbedPage, chromium
from integration.page_user import press

pytestmark = pytest.mark.timeout(240)

__all__ = ["chromium"]  # the fixture

GIB = 1 << 30
POOL: dict[str, Any] = {
    "id": "p", "name": "nfs", "type": "NetworkFilesystem", "ipaddress": "10.12.0.2", "path": "/pool",
    "scope": "ZONE",
    "state": "Up", "disksizetotal": 100 * GIB, "disksizeused": 25 * GIB, "disksizeallocated": 60 * GIB,
}  # fmt: skip
MACHINE = {"id": "m", "name": "web", "state": "Stopped", "hypervisor": "KVM", "zoneid": "z"}


def sent(stub: StubbedPage, command: str) -> list[dict[str, str]]:
    common = ("command", "response", "sessionkey")
    of_command = [call for call in stub.calls if call["command"] == command]
    return [{key: value for key, value in call.items() if key not in common} for call in of_command]


def test_pools_are_added_disabled_and_maintained_by_keyboard(chromium: Chromium) -> None:
    pools = [POOL]

    def disable(call: dict[str, str]) -> dict[str, Any]:
        pools[0] = {**POOL, "state": "Up" if call.get("enabled") == "true" else "Disabled"}
        return {"storagepool": pools[0]}

    def maintain(_call: dict[str, str]) -> dict[str, Any]:
        pools[0] = {**POOL, "state": "Maintenance"}
        return {"jobid": "j"}

    def end(_call: dict[str, str]) -> dict[str, Any]:
        pools[0] = POOL
        return {"jobid": "j"}

    def steps(page: Page) -> None:
        stub = StubbedPage(
            page,
            listStoragePools=lambda _call: {"storagepool": pools, "count": 1},
            createStoragePool={"storagepool": POOL},
            updateStoragePool=disable,
            enableStorageMaintenance=maintain,
            cancelStorageMaintenance=end,
            queryAsyncJobResult={"jobstatus": 1, "jobresult": {}},
        )
        stub.log_in()
        row, dialog = page.locator("#pools .row"), page.locator("#fields")
        expect(row).to_contain_text("25.0 GiB of 100.0 GiB · 60.0 GiB in volumes")
        expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
        assert violations_light_and_dark(page) == []
        press(page.get_by_role("button", name="Add pool…"))
        page.keyboard.type("second")
        dialog.get_by_label("URL").fill("nfs://10.12.0.3/second")
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        added = {"zoneid": "z", "name": "second", "url": "nfs://10.12.0.3/second"}
        assert sent(stub, "createStoragePool") == [added]
        press(row.get_by_role("button", name="Disable"))
        expect(row.locator(".state")).to_have_text("Disabled")
        press(row.get_by_role("button", name="Enable"))
        expect(row.locator(".state")).to_have_text("Up")
        press(row.get_by_role("button", name="Maintenance…"))
        press(page.locator("#confirm button.danger"))
        expect(row.locator(".state")).to_have_text("Maintenance")
        press(row.get_by_role("button", name="End maintenance"))
        expect(row.locator(".state")).to_have_text("Up")
        expect(row.get_by_role("button", name="Delete")).to_have_count(0)  # the role must not

    chromium.run(steps)


def test_a_stopped_machine_moves_to_another_pool(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(
            page,
            listVirtualMachines={"virtualmachine": [MACHINE], "count": 1},
            listStoragePools={"storagepool": [POOL], "count": 1},
            migrateVirtualMachine={"jobid": "j"},
            queryAsyncJobResult={"jobstatus": 1, "jobresult": {}},
        )
        stub.log_in()
        open_section(page, "Virtual machines")
        press(page.locator("#vms").get_by_role("button", name="Move…"))
        dialog = page.locator("#fields")
        expect(dialog.get_by_label("Storage pool").locator("option")).to_have_text(["nfs"])
        press(dialog.get_by_role("button", name="Move"))
        expect(dialog).to_be_hidden()
        assert sent(stub, "migrateVirtualMachine") == [{"virtualmachineid": "m", "storageid": "p"}]

    chromium.run(steps)
