# SPDX-License-Identifier: Apache-2.0
"""The page of a cloud with several zones, without a daemon: where things are made, and which are shown."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations_light_and_dark
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import RefusedError, StubbedPage, chromium
from integration.page_user import press

pytestmark = pytest.mark.timeout(240)

__all__ = ["chromium"]  # the fixture

EAST, WEST = {"id": "e", "name": "east"}, {"id": "w", "name": "west"}
TINY: dict[str, Any] = {"id": "t", "name": "tiny", "format": "QCOW2", "isready": True}
IMAGES = [TINY | {"zoneid": "e", "zonename": "east"}, TINY | {"zoneid": "w", "zonename": "west"}]
IMAGES.append(TINY | {"id": "u", "name": "of west", "zoneid": "w", "zonename": "west"})
DONE = {"jobstatus": 1, "jobresult": {}}


def templates(call: dict[str, str]) -> dict[str, Any]:
    rows = [each for each in IMAGES if call.get("zoneid", each["zoneid"]) == each["zoneid"]]
    return {"template": rows, "count": len(rows)}


def networks(call: dict[str, str]) -> dict[str, Any]:
    own, more = {"id": "o", "name": "own", "isdefault": True}, {"id": "n", "name": "wire", "isdefault": False}
    return {"network": [own] if call["zoneid"] == "e" else [own, more]}


def sent(stub: StubbedPage, command: str) -> list[dict[str, str]]:
    common = ("command", "response", "sessionkey")
    of_command = [call for call in stub.calls if call["command"] == command]
    return [{key: value for key, value in call.items() if key not in common} for call in of_command]


def test_a_zone_is_chosen_as_soon_as_there_are_several(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(
            page,
            listZones={"zone": [EAST]},
            listTemplates=templates,
            registerTemplate={},
            deleteTemplate={"jobid": "j"},
            getUploadParamsForTemplate=RefusedError(431),
            queryAsyncJobResult=DONE,
        )
        stub.user = {"type": "1"}
        stub.log_in()
        place, dialog = page.locator("#templates"), page.locator("#fields")
        column, chosen = place.get_by_role("columnheader", name="Zone"), place.get_by_label("Zone")
        expect(place.locator(".row")).to_have_count(3)
        expect(page.locator("#zone")).to_have_text("east")
        expect(column).to_have_count(0)
        expect(chosen).to_be_hidden()
        press(page.get_by_role("button", name="Register…"))
        expect(dialog.get_by_label("Name")).to_be_focused()
        expect(dialog.get_by_label("Zone")).to_have_count(0)
        page.keyboard.press("Escape")

        stub.answers["listZones"] = {"zone": [EAST, WEST]}
        stub.changed("zones")
        expect(page.locator("#zone")).to_have_text("2 zones")
        expect(column).to_be_visible()
        expect(chosen.locator("option")).to_have_text(["all", "east", "west"])
        press(page.get_by_role("button", name="Register…"))
        zone = dialog.get_by_label("Zone")
        expect(zone).to_be_focused()
        expect(zone.locator("option")).to_have_text(["east", "west", "all zones"])
        assert violations_light_and_dark(page) == []
        zone.select_option("west")
        dialog.get_by_label("Name").fill("one")
        dialog.get_by_label("URL").fill("https://images.example.test/one.qcow2")
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        [registered] = sent(stub, "registerTemplate")
        assert registered["zoneid"] == "w"

        press(page.get_by_role("button", name="Upload…"))
        upload = page.locator("#upload")
        upload.get_by_label("Zone").select_option("west")
        upload.locator("[name=file]").set_input_files({"name": "x.raw", "mimeType": "", "buffer": b"x"})
        press(upload.get_by_role("button", name="Upload"))
        expect(upload.get_by_role("alert")).to_have_text("refused")
        [uploaded] = sent(stub, "getUploadParamsForTemplate")
        assert uploaded["zoneid"] == "w"
        page.keyboard.press("Escape")

        in_west = place.locator(".row", has_text="tiny").filter(has_text="west")
        press(in_west.get_by_role("button", name="Delete"))
        expect(page.locator("#confirm p")).to_contain_text("of west")
        stub.hold("deleteTemplate")
        press(page.locator("#confirm button.danger"))
        expect(in_west).to_contain_text("Deleting…")
        stub.release("deleteTemplate")
        expect(in_west).not_to_contain_text("Deleting…")
        assert sent(stub, "deleteTemplate") == [{"id": "t", "zoneid": "w"}]

        chosen.select_option("east")
        expect(place.locator(".row")).to_have_count(1)
        stub.answers["listZones"] = {"zone": [WEST]}
        stub.changed("zones")
        expect(place.locator(".row")).to_have_count(3)  # a zone that is gone is not asked for
        expect(chosen).to_be_hidden()

    chromium.run(steps)


def test_images_and_networks_to_deploy_are_those_of_the_chosen_zone(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(
            page,
            listZones={"zone": [EAST, WEST]},
            listVirtualMachines={},
            listTemplates=templates,
            listNetworks=networks,
            listServiceOfferings={"serviceoffering": [{"id": "s", "name": "small"}]},
            deployVirtualMachine={"jobid": "j"},
            queryAsyncJobResult=DONE,
        )
        stub.log_in()
        open_section(page, "Virtual machines")
        dialog = page.locator("#fields")
        press(page.get_by_role("button", name="Deploy…"))
        zone, images = dialog.locator("[name=zoneid]"), dialog.get_by_label("From").locator("option")
        expect(images).to_have_text(["tiny (QCOW2)"])
        dialog.get_by_label("Name").fill("web")
        stub.hold("listTemplates")
        zone.select_option("west")
        dialog.get_by_label("Name").press("Enter")  # what west has is not known yet
        expect(zone).to_be_focused()
        assert zone.evaluate("zone => zone.validationMessage") == "What this zone has is not known yet."
        stub.release("listTemplates")
        expect(images).to_have_text(["tiny (QCOW2)", "of west (QCOW2)"])
        expect(dialog.get_by_label("Network").locator("option")).to_have_text(["the zone's own", "wire"])
        dialog.get_by_label("From").select_option("u")

        stub.answers["listNetworks"] = RefusedError(431)
        zone.select_option("east")
        expect(page.locator("#toasts")).to_contain_text("refused")
        assert "Choose the zone again" in zone.evaluate("zone => zone.validationMessage")
        stub.answers["listNetworks"] = networks
        stub.hold("listTemplates")
        zone.select_option("west")
        zone.select_option("east")
        zone.select_option("west")
        stub.release("listTemplates")
        page.evaluate("settled()")
        expect(images).to_have_text(["tiny (QCOW2)", "of west (QCOW2)"])
        dialog.get_by_label("From").select_option("u")
        assert violations_light_and_dark(page) == []
        dialog.get_by_label("Name").press("Enter")
        expect(dialog).to_be_hidden()
        [deployed] = sent(stub, "deployVirtualMachine")
        assert deployed.items() >= {"zoneid": "w", "templateid": "u", "name": "web"}.items()

    chromium.run(steps)


def test_volumes_are_made_and_attached_in_their_zone(chromium: Chromium) -> None:
    volume = {"id": "v", "name": "data", "type": "DATADISK", "state": "Ready", "zoneid": "w"}

    def steps(page: Page) -> None:
        stub = StubbedPage(
            page,
            listZones={"zone": [EAST, WEST]},
            listVolumes={"volume": [volume], "count": 1},
            listDiskOfferings={},
            listVirtualMachines={"virtualmachine": [{"id": "m", "name": "web"}]},
            createVolume={"jobid": "j"},
            uploadVolume={},
            attachVolume={"jobid": "j"},
            queryAsyncJobResult=DONE,
        )
        stub.log_in()
        open_section(page, "Volumes")
        dialog = page.locator("#fields")
        for opener, command in (("Create…", "createVolume"), ("From a URL…", "uploadVolume")):
            press(page.get_by_role("button", name=opener))
            dialog.get_by_label("Zone").select_option("west")
            dialog.get_by_label("Name").fill("disk")
            if command == "uploadVolume":
                dialog.get_by_label("URL").fill("https://images.example.test/disk.raw")
            dialog.get_by_label("Name").press("Enter")
            expect(dialog).to_be_hidden()
            [made] = sent(stub, command)
            assert made["zoneid"] == "w"
        press(page.get_by_role("button", name="Attach…"))
        expect(dialog.get_by_label("Virtual machine")).to_have_value("m")
        [asked] = [call for call in sent(stub, "listVirtualMachines") if "hypervisor" in call]
        assert asked["zoneid"] == "w"

    chromium.run(steps)


def test_networks_and_hosts_are_made_by_what_their_zone_has(chromium: Chromium) -> None:
    north = {"id": "n", "name": "north"}
    isolated = [
        {"id": f"i of {zone['id']}", "name": zone["name"], "guestiptype": "Isolated", "zoneid": zone["id"]}
        for zone in (EAST, WEST)
    ]
    xen = {"id": "x", "name": "racks", "podname": "pod", "hypervisortype": "XenServer", "zoneid": "w"}

    def steps(page: Page) -> None:
        stub = StubbedPage(
            page,
            listZones={"zone": [north, EAST, WEST]},
            listNetworks={},
            listNetworkOfferings={"networkoffering": isolated},
            createNetwork={},
            addHost={"host": [{"id": "h", "name": "xen"}]},
            listHosts={},
            listClusters={"cluster": [xen]},
        )
        stub.log_in()
        dialog = page.locator("#fields")
        zone = dialog.get_by_label("Zone")
        open_section(page, "Networks")
        press(page.get_by_role("button", name="Create…"))
        expect(zone.locator("option")).to_have_text(["east", "west"])  # no VLAN in north
        zone.select_option("west")
        expect(dialog.get_by_label("Type").locator("option")).to_have_text(["Isolated: west"])
        dialog.get_by_label("Name", exact=True).fill("lab")
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        assert sent(stub, "createNetwork") == [
            {"zoneid": "w", "name": "lab", "networkofferingid": "i of w"},
        ]
        open_section(page, "Hosts")
        press(page.get_by_role("button", name="Register host…"))
        cluster = dialog.get_by_label("Cluster")
        expect(cluster.locator("option")).to_have_text(["none"])
        zone.select_option("west")
        expect(cluster.locator("option")).to_have_text(["none", "racks of pod, XenServer"])
        cluster.select_option("x")
        zone.select_option("east")
        expect(cluster.locator("option")).to_have_text(["none"])
        stub.answers["listNetworkOfferings"] = {}
        page.keyboard.press("Escape")
        open_section(page, "Networks")
        press(page.get_by_role("button", name="Create…"))
        expect(page.locator("#toasts")).to_contain_text("north, east, west: no VLAN")

    chromium.run(steps)


def test_what_is_refused_of_the_only_zone_is_not_shown_at_its_hidden_field(chromium: Chromium) -> None:
    refusal = {"errorcode": 431, "errortext": "zone is Disabled", "parameter": "zoneid"}

    def steps(page: Page) -> None:
        StubbedPage(page, listImageStores={}, addImageStore=refusal).log_in()
        press(page.get_by_role("button", name="Add store…"))
        dialog = page.locator("#store-add")
        dialog.get_by_label("Name").fill("images")
        dialog.get_by_label("URL").fill("nfs://10.12.0.3/export/images")
        press(dialog.get_by_role("button", name="Add"))
        expect(dialog.locator(".error:has(+ menu)")).to_have_text("zone is Disabled")

    chromium.run(steps)


def test_long_names_of_zones_stay_on_a_narrow_screen(chromium: Chromium) -> None:
    long = [zone | {"name": zone["name"] * 50} for zone in (EAST, WEST)]
    machine = {"id": "m", "name": "web", "state": "Stopped", "hypervisor": "KVM", "zonename": long[0]["name"]}
    store = {"id": "s", "name": "first", "url": "nfs://10.12.0.2/first", "zonename": long[0]["name"]}

    def steps(page: Page) -> None:
        page.set_viewport_size({"width": 360, "height": 700})
        StubbedPage(
            page,
            listZones={"zone": long},
            listVirtualMachines={"virtualmachine": [machine], "count": 1},
            listImageStores={"imagestore": [store | {"providername": "NFS"}], "count": 1},
            addImageStore={},
        ).log_in()
        for section, shown in (("Virtual machines", "#vms"), ("Image stores", "#stores")):
            open_section(page, section)
            expect(page.locator(shown).get_by_label("Zone")).to_be_visible()
            expect(page.locator(f"{shown} :is(.row, .card)")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
        press(page.get_by_role("button", name="Add store…"))
        dialog = page.locator("#store-add")
        expect(dialog.get_by_label("Zone")).to_be_focused()
        assert dialog.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
        assert violations_light_and_dark(page) == []

    chromium.run(steps)
