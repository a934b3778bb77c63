# SPDX-License-Identifier: Apache-2.0
"""ISOs of machines on the page: attached from a list, detached by force, by what the role permits."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations
from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import StubbedPage, chromium
from integration.page_user import press

pytestmark = pytest.mark.timeout(240)

__all__ = ["chromium"]  # the fixture

RUNNING = {"id": "m", "name": "web", "state": "Running", "hypervisor": "KVM", "zoneid": "z"}
MACHINES = [
    RUNNING,
    {**RUNNING, "id": "n", "name": "db", "state": "Stopped", "isoid": "i", "isoname": "drivers"},
    {**RUNNING, "id": "o", "name": "old", "state": "Destroyed"},
]
ANSWERS = {
    "listVirtualMachines": {"virtualmachine": MACHINES, "count": 3},
    "listIsos": {"iso": [{"id": "i", "name": "drivers"}, {"id": "j", "name": "rescue"}], "count": 2},
    "queryAsyncJobResult": {"jobstatus": 1, "jobresult": {"virtualmachine": {}}},
}


def test_an_iso_is_attached_to_a_machine_and_detached_from_another(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, **ANSWERS, attachIso={"jobid": "j"}, detachIso={"jobid": "j"})
        stub.log_in()

        def sent(command: str) -> dict[str, str]:
            [call] = [call for call in stub.calls if call["command"] == command]
            return {key: call[key] for key in ("id", "virtualmachineid", "forced") if key in call}

        dialog = page.locator("#fields")
        attach = page.locator("#vms").get_by_role("button", name="Attach ISO…")
        expect(attach).to_have_count(1)
        press(attach)
        dialog.get_by_label("ISO").select_option(label="rescue")
        assert violations(page) == []
        press(dialog.get_by_role("button", name="Attach", exact=True))
        expect(dialog).to_be_hidden()
        assert sent("attachIso") == {"id": "j", "virtualmachineid": "m"}

        detach = page.locator("#vms").get_by_role("button", name="Detach ISO…")
        expect(detach).to_have_count(1)
        press(detach)
        expect(dialog.locator("h2")).to_have_text("Detach drivers from db")
        dialog.get_by_label("Eject it even if the guest uses it").check()
        assert violations(page) == []
        press(dialog.get_by_role("button", name="Detach", exact=True))
        expect(dialog).to_be_hidden()
        assert sent("detachIso") == {"virtualmachineid": "n", "forced": "true"}

    chromium.run(steps)


def test_a_role_that_must_not_is_offered_no_iso(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        StubbedPage(page, **ANSWERS).log_in()
        expect(page.locator("#vms .row")).to_have_count(3)
        expect(page.locator("#vms").get_by_role("button", name="ISO…")).to_have_count(0)

    chromium.run(steps)
