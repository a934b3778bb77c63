# SPDX-License-Identifier: Apache-2.0
"""What the picture of a zone shows and where, without a daemon: its modules in Chromium."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations
from integration.cpvm_lab.chromium import Chromium
from integration.page_modules import chromium, open_modules

pytestmark = pytest.mark.timeout(120)

__all__ = ["chromium"]  # the fixture

GIB = 1 << 30
BODY = """<html lang="en"><meta name="viewport" content="width=device-width"><title>picture</title>
<link rel="stylesheet" href="style.css"><link rel="stylesheet" href="picture.css">
<main><h1>picture</h1><div class="picture" id="picture" tabindex="0" role="region" aria-label="picture"></div>
<div id="outline"></div></main>"""
DRAW = """async (facts) => {
  const { zoneModel } = await import("./zone_model.js");
  const { layout } = await import("./zone_layout.js");
  const { drawing, outline } = await import("./zone_drawing.js");
  const model = zoneModel(facts);
  document.querySelector("#picture").replaceChildren(drawing(model));
  document.querySelector("#outline").replaceChildren(outline(model));
  return { ...model, layout: layout(model) };
}"""


def traffic(kind: str, bridge: str) -> dict[str, Any]:
    return {
        "id": kind.lower(), "traffictype": kind, "kvmnetworklabel": bridge,
        "physicalnetworkid": bridge, "physicalnetworkname": bridge,
    }  # fmt: skip


def facts(**changed: Any) -> dict[str, Any]:
    """Return the lists of a zone with one of each; `changed` replaces some."""
    ssvm = {
        "id": "s1", "name": "s-1-VM", "systemvmtype": "secondarystoragevm", "state": "Running",
        "agentstate": "Up", "linklocalip": "169.254.3.1", "privateip": "10.11.0.20",
        "publicip": "203.0.113.20",
    }  # fmt: skip
    store = {
        "id": "st1", "name": "secondary", "url": "nfs://10.12.0.2/export", "readonly": False,
        "retiring": False, "disksizetotal": 100 * GIB, "disksizeused": 10 * GIB,
        "notificationthreshold": 0.75, "capacitythreshold": 0.9,
    }  # fmt: skip
    server = {
        "id": "h1", "name": "host1", "state": "Up", "hypervisor": "KVM", "virtualmachines": 3, "cpunumber": 8,
        "vcpusallocated": 4, "memorytotal": 16 * GIB, "memoryallocatedbytes": 4 * GIB,
    }  # fmt: skip
    pool = {
        "id": "p1", "name": "nfs", "type": "NetworkFilesystem", "ipaddress": "10.12.0.2", "path": "/p",
        "state": "Up", "disksizetotal": 10 * GIB, "disksizeused": GIB,
    }  # fmt: skip
    net = {"netmask": "255.255.255.0"}
    labels = {
        "Guest": "cloudbr3", "Public": "cloudbr0", "Management": "cloudbr1", "Storage": "cloudbr2",
        "Control": "cloud0",
    }  # fmt: skip
    pod = {"gateway": "10.11.0.1", "startip": ["10.11.0.20"], "addressesused": 2, "addressestotal": 80, **net}
    public = {"startip": "203.0.113.20", "addressesused": 2, "addressestotal": 2, **net}
    return {
        "zone": {"name": "zone1"},
        "types": [traffic(kind, bridge) for kind, bridge in labels.items()],
        "pods": [pod],
        "ranges": [{"forvirtualnetwork": True, "vlan": "vlan://210", **public}],
        "storageRanges": [{"startip": "10.12.0.20", "addressesused": 0, "addressestotal": 9, **net}],
        "networks": [{"name": "guests", "traffictype": "Guest", "physicalnetworkid": "cloudbr3"}],
        "hosts": [server],
        "systemVms": [ssvm],
        "stores": [store],
        "pools": [pool],
        "vms": {"total": 1000, "states": {"Running": 950, "Stopped": 48, "Error": 2}},
        **changed,
    }


def drawn(chromium: Chromium, of: dict[str, Any], check: Any = None, **options: Any) -> dict[str, Any]:
    def steps(page: Page) -> dict[str, Any]:
        open_modules(page, BODY)
        model: dict[str, Any] = page.evaluate(DRAW, of)
        if check is not None:
            check(page)
        return model

    return chromium.run(steps, **options)


def named(model: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [
        item for item in (*model["networks"], *model["above"], *model["below"]) if item["name"] == name
    ]
    return dict(found)


def test_networks_have_bridge_vlan_names_and_addresses_used(chromium: Chromium) -> None:
    model = drawn(chromium, facts())
    assert [each["name"] for each in model["networks"]] == [
        "Control",
        "Management",
        "Public",
        "Storage",
        "Guest",
    ]
    public = named(model, "Public")
    assert public["lines"] == ["bridge cloudbr0, VLAN 210", "2 of 2 addresses used"]
    assert (public["level"], public["state"]) == ("bad", "No address is free")
    assert named(model, "Guest")["lines"] == ["bridge cloudbr3", "guests"]


def test_each_thing_is_on_the_networks_that_it_has_addresses_of(chromium: Chromium) -> None:
    model = drawn(chromium, facts())
    assert named(model, "s-1-VM")["networks"] == ["control", "management", "public"]
    assert named(model, "secondary")["networks"] == ["storage"] == named(model, "nfs")["networks"]
    assert named(model, "1,000 VMs")["networks"] == ["guest"]
    assert len(named(model, "host1")["networks"]) == 5
    bucket = {"id": "b", "name": "bucket", "url": "https://s3.example.test/b", "notificationthreshold": 0.75,
              "capacitythreshold": 0.9, "readonly": False, "retiring": False}  # fmt: skip
    assert named(drawn(chromium, facts(stores=[bucket])), "bucket")["networks"] == []


@pytest.mark.parametrize(
    ("vm", "level", "state"),
    [
        ({"state": "Running", "agentstate": "Up"}, "good", "Running, agent Up"),
        ({"state": "Running", "agentstate": "Alert"}, "bad", "Running, agent Alert"),
        ({"state": "Running"}, "warn", "Running, agent Connecting"),
        ({"state": "Starting"}, "warn", "Starting"),
        ({"state": "Stopped"}, "off", "Stopped"),
    ],
)
def test_states_are_a_level_and_words(chromium: Chromium, vm: dict[str, str], level: str, state: str) -> None:
    row = {"id": "v", "name": "v-2-VM", "systemvmtype": "consoleproxy", "activeviewersessions": 1, **vm}
    item = named(drawn(chromium, facts(systemVms=[row])), "v-2-VM")
    assert (item["level"], item["state"], item["lines"][0]) == (level, state, "1 open console")


def test_how_full_a_store_is_is_said_by_its_thresholds(chromium: Chromium) -> None:
    for used, level, state in (
        (10, "good", "Up"),
        (80, "warn", "Filling"),
        (95, "bad", "Full: gets nothing new"),
    ):
        store = {**facts()["stores"][0], "disksizeused": used * GIB}
        item = named(drawn(chromium, facts(stores=[store])), "secondary")
        assert (item["level"], item["state"], item["fill"]) == (level, state, used / 100)
        assert f"{used}.0 GiB of 100.0 GiB used ({used} %)" in item["lines"]


def test_many_of_a_kind_are_counted_and_those_in_trouble_are_shown_first(chromium: Chromium) -> None:
    hosts = [{**facts()["hosts"][0], "id": f"h{n}", "name": f"host{n}"} for n in range(200)]
    hosts[150]["state"] = "Down"
    below = drawn(chromium, facts(hosts=hosts))["below"]
    shown = [(item["name"], item["level"]) for item in below if item["kind"] == "Host"]
    assert shown == [("host150", "bad"), ("host0", "good"), ("host1", "good"), ("197 more", "good")]
    more = next(item for item in below if item["name"] == "197 more")
    assert (more["state"], more["networks"]) == (
        "197 Up",
        ["control", "management", "public", "storage", "guest"],
    )


def test_nothing_overlaps_and_every_line_ends_at_its_network(chromium: Chromium) -> None:
    many = [{**facts()["systemVms"][0], "id": f"s{n}", "name": f"s-{n}-VM"} for n in range(9)]
    place = drawn(chromium, facts(systemVms=many))["layout"]
    cards = place["cards"]
    for one in cards:
        assert one["x"] + 208 <= place["width"] and one["y"] + 112 <= place["height"]
        apart = [
            abs(one["x"] - two["x"]) >= 208 or abs(one["y"] - two["y"]) >= 112
            for two in cards
            if two is not one
        ]
        assert all(apart)
    lanes = {lane["item"]["id"]: lane["y"] for lane in place["lanes"]}
    assert all(drop["to"] == lanes[drop["network"]] for drop in place["drops"])
    assert len({drop["x"] for drop in place["drops"] if drop["card"] == "h1"}) == 5


@pytest.mark.parametrize("dark", [False, True])
def test_the_picture_is_walked_by_keyboard_and_its_list_holds_the_same(
    chromium: Chromium, dark: bool
) -> None:
    down = {**facts()["pools"][0], "state": "Down"}

    def check(page: Page) -> None:
        assert violations(page) == []
        items = page.locator("#picture [data-item]")
        reached: list[str] = []
        page.keyboard.press("Tab")  # the region, which scrolls
        for _ in range(items.count()):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.dataset.item"))
        assert sorted(reached) == sorted(items.evaluate_all("all => all.map((one) => one.dataset.item)"))
        pool = page.locator("#picture [data-item=p1]")
        expect(pool.locator(".state-line")).to_have_text("✕ Down")
        assert "1.0 GiB of 10.0 GiB used (10 %)" in (pool.locator("title").text_content() or "")
        for item in items.all():
            title = (item.locator("title").text_content() or "").split("\n")
            listed = page.locator(f"#outline [data-entry='{item.get_attribute('data-item')}']")
            for line in title[1:]:
                expect(listed).to_contain_text(line)

    drawn(chromium, facts(pools=[down]), check, dark=dark)


def test_names_are_shown_as_text(chromium: Chromium) -> None:
    evil = "<img src=x onerror=alert(1)>"
    hosts = [{**facts()["hosts"][0], "name": evil}]

    def check(page: Page) -> None:
        assert page.locator("#picture img, #outline img").count() == 0

    assert named(drawn(chromium, facts(hosts=hosts), check), evil)["name"] == evil
