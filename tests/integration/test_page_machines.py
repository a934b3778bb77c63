# SPDX-License-Identifier: Apache-2.0
"""Deploying machines and opening their consoles on the page of a real daemon, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host
from integration.page_user import chromium
from integration.page_visitor import Visitor

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "host"]  # fixtures

TEMPLATE = {"id": "t-1", "name": "tiny", "format": "QCOW2", "isready": True, "status": "Download Complete"}
MACHINE = {
    "id": "m-1",
    "name": "web",
    "displayname": "web",
    "instancename": "i-2-3-VM",
    "state": "Running",
    "hypervisor": "KVM",
    "nic": [{"ipaddress": "10.13.0.50"}],
}
PROXY = {"id": "v-1", "name": "v-2-VM", "systemvmtype": "consoleproxy", "state": "Running"}
OFFERING = {"id": "o-1", "name": "small"}
NETWORK = {"id": "n-1", "name": "backend", "type": "L2", "isdefault": False}
OWN = {"id": "n-0", "name": "own", "type": "Shared", "isdefault": True}
SHOWN = {"kind", "virtualmachineid", "keyboard", "networkids", "userdata", "boottype"}


def test_a_machine_is_deployed_with_its_keyboard_and_shows_screen_and_serial_port(
    host: Host, chromium: Chromium
) -> None:
    host.start()
    console = f"{host.page}/icon.svg"

    def answer(call: dict[str, str]) -> dict[str, Any] | None:
        match call["command"]:
            case "listTemplates":
                return {"template": [TEMPLATE]}
            case "listVirtualMachines":
                return {"virtualmachine": [MACHINE | {"reason": "It waits for room on its storage."}]}
            case "listSystemVms":
                return {"systemvm": [PROXY]}
            case "listServiceOfferings":
                return {"serviceoffering": [OFFERING]}
            case "listNetworks":
                return {"network": [OWN, NETWORK]}
            case "deployVirtualMachine":
                return {"jobid": "j-1", "id": "m-1"}
            case "queryAsyncJobResult":
                done = MACHINE | {"password": "a2b3c4"}
                return {"jobstatus": 1, "jobresult": {"virtualmachine": done}}
            case "createConsoleEndpoint":
                refused = call.get("kind") == "serial" and call["virtualmachineid"] == "v-1"
                link = {"success": True, "url": console}
                return {"consoleendpoint": {"success": False, "details": "no port"} if refused else link}
            case "createConsoleThumbnail":
                return {"consolethumbnail": {"hash": "0"}}
        return None

    visitor = Visitor(host, answer)

    def asked(command: str) -> list[dict[str, str]]:
        named = [call for call in visitor.calls if call["command"] == command]
        return [{key: call[key] for key in call.keys() & SHOWN} for call in named]

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Virtual machines")
        for keyboard, network, firmware, user_data in (
            ("sc", "backend", "UEFI", "#é"),
            ("", "the zone's own", "", ""),
        ):
            page.click("#open-deploy")
            page.fill("#fields [name=name]", "web")
            page.get_by_label("Keyboard of the guest").select_option(keyboard)
            page.locator("#fields").get_by_label("Network").select_option(network)
            page.get_by_label("Firmware").select_option(firmware)
            page.get_by_label("User data").fill(user_data)
            page.click("#fields button.primary")
            expect(page.locator("#fields")).not_to_be_visible()
            password = page.locator("#secret")
            expect(password.get_by_label("Password", exact=True)).to_have_value("a2b3c4")
            assert violations(page) == []
            page.get_by_role("button", name="I have it").click()
            expect(password).to_be_hidden()
            expect(password.locator("input")).to_have_count(0)
        chosen = {"keyboard": "sc", "networkids": "n-1", "boottype": "UEFI", "userdata": "I8Op"}
        assert asked("deployVirtualMachine") == [chosen, {}]

        machine = page.locator("#vms .row", has_text="web")
        expect(machine).to_contain_text("10.13.0.50")
        expect(machine.get_by_text("It waits for room")).to_have_count(1)
        for button in ("View Console", "Serial Port"):
            with page.context.expect_page() as opened:
                machine.get_by_role("button", name=button).click()
            expect(opened.value).to_have_url(console)
            opened.value.close()
        open_section(page, "System VMs")
        page.locator(".card", has_text="v-2-VM").get_by_role("button", name="Serial Port").click()
        expect(page.locator("#toasts")).to_contain_text("no port")
        assert asked("createConsoleEndpoint") == [
            {"virtualmachineid": "m-1"},
            {"virtualmachineid": "m-1", "kind": "serial"},
            {"virtualmachineid": "v-1", "kind": "serial"},
        ]

    chromium.run(steps)


def test_a_stopped_machine_changes_its_size_and_is_restored(host: Host, chromium: Chromium) -> None:
    host.start()
    of_template = {"templateid": "t-1", "templatename": "tiny"}
    stopped = MACHINE | of_template | {"state": "Stopped", "serviceofferingid": "o-1"}
    running = MACHINE | {"id": "m-2", "name": "db", "displayname": "db", "templateid": "i-1", "isoid": "i-1"}
    detached = MACHINE | {"id": "m-3", "name": "mail", "displayname": "mail", "templateid": "i-1"}

    def answer(call: dict[str, str]) -> dict[str, Any] | None:
        match call["command"]:
            case "listTemplates":
                return {"template": [TEMPLATE, TEMPLATE | {"id": "t-2", "name": "debian"}]}
            case "listIsos":
                return {"iso": [{"id": "i-1", "name": "cd"}, {"id": "i-2", "name": "dvd"}]}
            case "listVirtualMachines":
                return {"virtualmachine": [stopped, running, detached]}
            case "listServiceOfferings":
                return {"serviceoffering": [OFFERING, {"id": "o-2", "name": "large"}]}
            case "scaleVirtualMachine" | "restoreVirtualMachine":
                return {"jobid": "j-1"}
            case "queryAsyncJobResult":
                return {"jobstatus": 1, "jobresult": {"virtualmachine": stopped | {"password": "a2b3c4"}}}
            case "createConsoleThumbnail":
                return {"consolethumbnail": {"hash": "0"}}
        return None

    visitor = Visitor(host, answer)
    named = {"id", "virtualmachineid", "templateid", "serviceofferingid"}

    def asked(command: str) -> list[dict[str, str]]:
        calls = [call for call in visitor.calls if call["command"] == command]
        return [{key: call[key] for key in call.keys() & named} for call in calls]

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Virtual machines")
        dialog = page.locator("#fields")
        web, db, mail = (page.locator("#vms .row", has_text=name) for name in ("web", "db", "mail"))
        expect(db.get_by_role("button", name="Change size…")).to_have_count(0)
        web.get_by_role("button", name="Change size…").click()
        expect(dialog.locator("option")).to_have_text(["large"])
        assert violations(page) == []
        dialog.get_by_role("button", name="Change").click()
        expect(dialog).to_be_hidden()
        expect(web.get_by_role("button", name="Restore…")).to_be_enabled()
        assert asked("scaleVirtualMachine") == [{"id": "m-1", "serviceofferingid": "o-2"}]

        own = "what it was deployed from"
        for row, choice in ((web, "debian"), (db, "dvd"), (db, own), (mail, "cd")):
            row.get_by_role("button", name="Restore…").click()
            expect(dialog).to_contain_text("This deletes what is on its root disk.")
            expect(dialog.locator("option")).to_have_count(2)
            dialog.get_by_label("From").select_option(choice)
            dialog.locator("button.danger").click()
            expect(page.locator("#secret").get_by_label("Password", exact=True)).to_have_value("a2b3c4")
            page.get_by_role("button", name="I have it").click()
        assert asked("restoreVirtualMachine") == [
            {"virtualmachineid": "m-1", "templateid": "t-2"},
            {"virtualmachineid": "m-2", "templateid": "i-2"},
            {"virtualmachineid": "m-2"},
            {"virtualmachineid": "m-3", "templateid": "i-1"},
        ]

    chromium.run(steps)
