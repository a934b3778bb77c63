# SPDX-License-Identifier: Apache-2.0
"""Buttons of the page for users whose role permits some commands, without a daemon."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import RefusedError, StubbedPage, chromium
from integration.page_user import press

pytestmark = pytest.mark.timeout(120)

__all__ = ["chromium"]  # the fixture

WHEN = "2026-01-01T00:00:00+0000"
TAG = {"key": "env", "value": "test"}
TEMPLATE = {
    "id": "t", "name": "tiny", "format": "QCOW2", "isready": True, "isextractable": True, "tags": [TAG]
}  # fmt: skip
RUNNING = {"id": "m", "name": "web", "state": "Running", "hypervisor": "KVM"}
DESTROYED = {"id": "n", "name": "db", "state": "Destroyed", "hypervisor": "KVM"}
EVENT = {"id": "e", "description": "it began", "created": WHEN, "type": "X", "level": "INFO"}
LISTS: dict[str, dict[str, Any]] = {
    "listTemplates": {"template": [TEMPLATE]},
    "listVirtualMachines": {"virtualmachine": [RUNNING, DESTROYED]},
    "listSystemVms": {"systemvm": [{"id": "s", "name": "s-1-VM", "state": "Running"}]},
    "listImageStores": {"imagestore": [{"id": "i", "name": "nfs", "providername": "NFS"}]},
    "listConfigurations": {"configuration": [{"name": "a", "value": "1", "defaultvalue": "2", "group": "g"}]},
    "listEvents": {"event": [EVENT]},
    "listAlerts": {"alert": [{"id": "a", "name": "X", "description": "it broke", "sent": WHEN}]},
    "listAsyncJobs": {},
}
SECTIONS = {
    "templates": ("extractTemplate", "Download…"),
    "vms": ("rebootVirtualMachine", "Reboot"),
    "system-vms": ("stopSystemVm", "Stop"),
    "stores": ("updateImageStore", "Edit…"),
    "settings": ("updateConfiguration", "Edit…"),
    "events": ("archiveEvents", "Archive"),
    "alerts": ("deleteAlerts", "Delete"),
}
BUTTONS = "[data-action], .tools [data-command]"


def offered(page: Page, section: str) -> list[str]:
    page.evaluate("section => { location.hash = `#/${section}`; }", section)
    shown = page.locator(f"[data-section={section}]")
    expect(shown.locator(".row, .card").first).to_be_visible()
    return [button.inner_text() for button in shown.locator(BUTTONS).all() if button.is_visible()]


def test_only_what_the_role_permits_is_offered(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, **LISTS)
        stub.log_in()
        steps_of = {"templates": ["Steps"], "vms": ["Steps", "Steps"]}
        for section in SECTIONS:
            assert offered(page, section) == steps_of.get(section, []), section
        expect(page.locator("#alerts [type=checkbox]:visible")).to_have_count(0)
        expect(page.locator("button.name")).to_have_count(0)
        stub.answers |= {command: {} for command, _ in SECTIONS.values()} | {"listTags": {}}
        page.reload()
        for section, (_, button) in SECTIONS.items():
            expected = [*steps_of.get(section, ())[:1], button, *steps_of.get(section, ())[1:]]
            assert offered(page, section) == expected, section
        offered(page, "templates")
        press(page.get_by_role("button", name="tiny", exact=True))
        details = page.locator("#details")
        expect(details.locator("tbody tr")).to_have_text("envtest")
        assert details.get_by_role("button").all_inner_texts() == ["Close"]
        expect(details).not_to_contain_text("Annotations", use_inner_text=True)

    chromium.run(steps)


def test_a_role_that_must_not_list_zones_sees_the_rest(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        permitted = {"api": [{"name": name} for name in ("listVolumes", "createVolume")]}
        StubbedPage(page, listApis=permitted, listZones=RefusedError(432), listVolumes={}).log_in()
        expect(page.locator("#volumes .empty")).to_be_visible()
        page.click("#open-volume")
        expect(page.locator("#toasts")).to_contain_text("listZones")

    chromium.run(steps)


def test_the_address_is_followed_while_the_first_section_is_loaded(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, **LISTS)
        stub.log_in()
        offered(page, "alerts")
        stub.hold("listAlerts")
        with page.expect_request(lambda request: "listAlerts" in (request.post_data or "")):
            page.reload()
        expect(page.locator("#cloud")).to_be_hidden()
        page.evaluate("() => { location.hash = '#/events'; }")
        stub.release("listAlerts")
        expect(page.locator("[data-section=events] .row")).to_be_visible()
        expect(page.locator("#alerts")).to_be_hidden()

    chromium.run(steps)
