# SPDX-License-Identifier: Apache-2.0
"""Zones and what they are made of on the page: of a real daemon, and what a role is offered without one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from accessibility import violations_light_and_dark
from console_page import open_section
from integration.cpvm_lab.browsers import browser
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host_with
from integration.page_modules import StubbedPage, chromium
from integration.page_user import press
from integration.page_visitor import Visitor

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]

__all__ = ["browser", "chromium"]  # fixtures


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host without a zone."""
    with host_with(tmp_path, zone_file=False) as host:
        host.start()
        yield host


def open_part(page: Page, title: str) -> None:
    press(page.get_by_role("navigation", name="Parts of the infrastructure").get_by_role("link", name=title))


def fill(page: Page, opener: Locator, **values: str) -> None:
    """Open a dialog and fill it in, by keyboard."""
    press(opener)
    dialog = page.locator("#fields")
    expect(dialog).to_be_visible()
    for name, value in values.items():
        field = dialog.locator(f"[name={name}]")
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(label=value)
        else:
            field.fill(value)


def submit(page: Page) -> None:
    press(page.locator("#fields [value=ok]"))
    expect(page.locator("#fields")).to_be_hidden()


def button(page: Page, name: str) -> Locator:
    return page.locator("section:visible").get_by_role("button", name=name, exact=True)


def add(page: Page, part: str, opener: str, **values: str) -> None:
    open_part(page, part)
    fill(page, button(page, opener), **values)
    submit(page)


def row_of(page: Page, text: str) -> Locator:
    return page.locator("section:visible .row:visible").filter(has_text=text)


def delete(page: Page, row: Locator) -> None:
    press(row.get_by_role("button", name="Delete", exact=True))
    press(page.locator("#confirm button.danger"))
    expect(row).to_have_count(0)


def test_a_zone_is_made_changed_and_enabled_on_the_page_alone(host: Host, browser: Chromium) -> None:
    [own] = [each["name"] for each in host.call("listHosts", type="Routing")["host"]]

    def steps(page: Page) -> None:
        Visitor(host, None).open(page)
        open_section(page, "Infrastructure")
        expect(page.locator("#zones .empty")).to_have_text("There is no zone yet.")
        open_part(page, "Pods")
        press(button(page, "Create pod…"))
        expect(page.locator("#toasts")).to_contain_text("create one first")
        add(page, "Zones", "Create zone…", name="east", dns1="203.0.113.10", internaldns1="203.0.113.10")
        enable = row_of(page, "east").get_by_role("button", name="Enable")
        press(enable)
        expect(page.locator("#toasts")).to_contain_text("cannot be enabled: it has no pod")
        expect(enable).to_be_focused()
        add(page, "Physical networks", "Create physical network…", name="physical1")
        for kind, label in (
            ("Management", "cloudbr1"),
            ("Public", "cloudbr0"),
            ("Storage", "cloudbr2"),
            ("Guest", "cloudbr3"),
        ):
            add(page, "Traffic types", "Add traffic type…", traffictype=kind, kvmnetworklabel=label)
            expect(row_of(page, kind)).to_contain_text(label)
        make_places(page, own)
        make_ranges(page)
        change_what_there_is(page)
        open_part(page, "Zones")
        press(enable)
        expect(row_of(page, "east").locator(".state")).to_have_text("Enabled")
        assert violations_light_and_dark(page) == []
        fill_a_second_zone(page, shared_directory(host))

    browser.run(steps)
    [east, west] = host.call("listZones")["zone"]
    assert (east["allocationstate"], east["domain"]) == ("Enabled", "example.test")
    [pool] = host.call("listStoragePools", name="disks")["storagepool"]
    [template] = host.call("listTemplates", templatefilter="all")["template"]
    [iso] = host.call("listIsos", isofilter="all")["iso"]
    assert {each["zoneid"] for each in (pool, template, iso)} == {west["id"]}


def make_places(page: Page, host: str) -> None:
    """Make a pod, whose wrong gateway is shown at its field, and a cluster; put the host into it, twice."""
    open_part(page, "Pods")
    fill(page, button(page, "Create pod…"), name="pod1", gateway="10.11.0.999", netmask="255.255.255.0")
    press(page.locator("#fields [value=ok]"))
    gateway, error = page.locator("#fields [name=gateway]"), page.locator("#fields .error")
    expect(error).to_contain_text("gateway")
    expect(gateway).to_be_focused()
    expect(gateway).to_have_attribute("aria-invalid", "true")
    assert page.locator(".pair:has([name=gateway]) + .error").count() == 1, "it is below its field"
    assert violations_light_and_dark(page) == []
    gateway.fill("10.11.0.1")
    page.locator("#fields [name=startip]").fill("10.11.0.100")
    page.locator("#fields [name=endip]").fill("10.11.0.109")
    submit(page)
    pod = row_of(page, "pod1")
    expect(pod).to_contain_text("10.11.0.100–10.11.0.109")
    fill(page, pod.get_by_role("button", name="Add range…"), startip="10.11.0.120", endip="10.11.0.129")
    submit(page)
    expect(pod).to_contain_text("0 of 20 in use")
    changed = {"range": "10.11.0.120–10.11.0.129", "newendip": "10.11.0.139"}
    fill(page, pod.get_by_role("button", name="Change range…"), **changed)
    submit(page)
    expect(pod).to_contain_text("0 of 30 in use")
    fill(page, pod.get_by_role("button", name="Delete range…"), range="10.11.0.120–10.11.0.139")
    submit(page)
    expect(pod).to_contain_text("0 of 10 in use")
    add(page, "Clusters", "Add cluster…", clustername="cluster1")
    expect(row_of(page, "cluster1")).to_contain_text("pod1")
    open_section(page, "Hosts")
    own, cluster = row_of(page, host), row_of(page, "cluster1")
    fill(page, own.get_by_role("button", name="Put into a cluster…"))
    submit(page)
    press(cluster.get_by_role("button", name="Take out of cluster"))
    press(page.locator("#confirm button.danger"))
    expect(cluster).to_have_count(0)
    fill(page, own.get_by_role("button", name="Put into a cluster…"))
    submit(page)
    expect(cluster).to_be_visible()
    open_section(page, "Infrastructure")


def make_ranges(page: Page) -> None:
    """Add public addresses, which are searched and ordered by the daemon, and storage addresses."""
    net = {"gateway": "203.0.113.1", "netmask": "255.255.255.0"}
    for first, last in (("203.0.113.100", "203.0.113.109"), ("203.0.113.20", "203.0.113.29")):
        add(page, "IP ranges", "Add range…", **net, startip=first, endip=last)
    ranges = page.locator("#ip-ranges .row")
    expect(ranges).to_have_count(2)
    press(page.locator("#ip-ranges").get_by_role("button", name="Addresses"))
    expect(ranges.first).to_contain_text("203.0.113.20–203.0.113.29")
    search = page.get_by_label("Search IP ranges")
    search.fill("113.109")
    expect(ranges).to_have_count(1)
    search.fill("")
    expect(ranges).to_have_count(2)
    fill(page, row_of(page, "203.0.113.20").get_by_role("button", name="Edit…"), endip="")
    press(page.locator("#fields [value=ok]"))
    needed = page.locator("#fields [name=endip]:invalid")
    expect(needed).to_be_focused()  # it is needed, so nothing is sent
    needed.fill("203.0.113.25")
    submit(page)
    delete(page, row_of(page, "203.0.113.20–203.0.113.25"))
    page.locator("#ip-ranges").get_by_label("Traffic").select_option("storage")
    expect(page.locator("#ip-ranges .empty")).to_be_visible()
    net = {"gateway": "10.12.0.1", "netmask": "255.255.255.0", "startip": "10.12.0.100"}
    fill(page, button(page, "Add range…"), **net)
    submit(page)
    expect(ranges).to_contain_text("10.12.0.100")
    make_guest_range(page)


def make_guest_range(page: Page) -> None:
    """Make the zone's guest network without addresses, give it some, and delete it."""
    ranges = page.locator("#ip-ranges .row")
    page.locator("#ip-ranges").get_by_label("Traffic").select_option("guest")
    expect(page.locator("#ip-ranges .empty")).to_be_visible()
    fill(page, button(page, "Add range…"), gateway="10.13.0.1", netmask="255.255.255.0")
    submit(page)
    expect(ranges).to_contain_text("none yet")
    expect(ranges).to_contain_text("gateway 10.13.0.1")
    span = {"startip": "10.13.0.50", "endip": "10.13.0.99"}
    fill(page, ranges.get_by_role("button", name="Edit…"), **span)
    expect(page.locator("#fields h2")).to_have_text("Edit 10.13.0.0/24")
    submit(page)
    expect(ranges).to_contain_text("10.13.0.50–10.13.0.99")
    expect(ranges).to_contain_text("0 of 50")
    delete(page, ranges)


def shared_directory(host: Host) -> Path:
    directory, like = host.layout.root / "shared", host.layout.primary.stat()
    directory.mkdir()
    os.chown(directory, like.st_uid, like.st_gid)
    directory.chmod(like.st_mode)
    return directory


def fill_a_second_zone(page: Page, pool: Path) -> None:
    """Make another zone, and in it an image store, a storage pool, a template and an ISO."""
    add(page, "Zones", "Create zone…", name="west", dns1="203.0.113.10", internaldns1="203.0.113.10")
    expect(page.locator("#zone")).to_have_text("2 zones")
    open_section(page, "Image stores")
    press(button(page, "Add store…"))
    dialog = page.locator("#store-add")
    expect(dialog.get_by_label("Zone")).to_be_focused()
    dialog.get_by_label("Zone").select_option("west")
    dialog.get_by_label("Name").fill("images")
    dialog.get_by_label("URL").fill("nfs://10.12.0.3/export/west")
    press(dialog.get_by_role("button", name="Add"))
    expect(page.locator("#stores .card", has_text="images")).to_contain_text("west")
    open_section(page, "Storage pools")
    url = f"SharedMountPoint://{pool}"
    fill(page, button(page, "Add pool…"), zoneid="west", name="disks", url=url)
    submit(page)
    expect(row_of(page, "disks")).to_contain_text("west")
    open_section(page, "Templates and ISOs")
    for name, kind, format_ in (("tiny", "templates", "QCOW2"), ("rescue", "ISOs", "ISO")):
        url = f"https://images.example.test/{name}.{format_.lower()}"
        fill(page, button(page, "Register…"), zoneid="west", name=name, url=url, format=format_)
        submit(page)
        page.locator("#templates").get_by_label("Kind").select_option(kind)
        expect(row_of(page, name)).to_contain_text("west")
    page.locator("#templates").get_by_label("Zone").select_option("east")
    expect(page.locator("#templates .empty")).to_be_visible()
    assert violations_light_and_dark(page) == []


def change_what_there_is(page: Page) -> None:
    """Change the zone, disable and enable its parts, and delete some; what is in use is refused."""
    open_part(page, "Clusters")
    cluster = row_of(page, "cluster1")
    fill(page, cluster.get_by_role("button", name="Rename…"), clustername="racks")
    submit(page)
    for part, name in (("Clusters", "racks"), ("Pods", "pod1"), ("Physical networks", "physical1")):
        open_part(page, part)
        row = row_of(page, name)
        press(row.get_by_role("button", name="Disable"))
        expect(row.locator(".state")).to_have_text("Disabled")
        press(row.get_by_role("button", name="Enable"))
        expect(row.locator(".state")).to_have_text("Enabled")
        press(row.get_by_role("button", name="Delete", exact=True))
        press(page.locator("#confirm button.danger"))
        expect(page.locator("#toasts")).to_contain_text(f"{name} is in use")
        expect(row).to_be_visible()
    open_part(page, "Traffic types")
    guest, label = row_of(page, "Guest"), "XenServer: xenbr3"
    fill(page, guest.get_by_role("button", name="Edit…"), xennetworklabel="xenbr3")
    submit(page)
    expect(guest).to_contain_text(label)
    fill(page, guest.get_by_role("button", name="Edit…"), xennetworklabel="")
    submit(page)
    expect(guest).not_to_contain_text(label)
    delete(page, guest)
    open_part(page, "Zones")
    optional = {
        "description": "1st",
        "dns2": "203.0.113.12",
        "ip6dns1": "2001:db8::51",
        "ip6dns2": "2001:db8::52",
        "internaldns2": "203.0.113.14",
    }
    edit = row_of(page, "east").get_by_role("button", name="Edit…")
    fill(page, edit, domain="example.test", **optional)
    submit(page)
    for text in optional.values():
        expect(row_of(page, "east")).to_contain_text(text)
    fill(page, edit, **dict.fromkeys(optional, ""))
    submit(page)
    for text in optional.values():
        expect(row_of(page, text)).to_have_count(0)


ZONES = [
    {"id": "z", "name": "zone1", "allocationstate": "Enabled"},
    {"id": "y", "name": "zone2", "allocationstate": "Disabled"},
]


def pods(call: dict[str, str]) -> dict[str, Any]:
    name = f"pod of {call['zoneid']}"
    return {"pod": [{"id": "p", "name": name, "allocationstate": "Enabled", "netmask": "255.255.255.0"}]}


LISTS: dict[str, Any] = {
    "listZones": {"zone": ZONES},
    "listPods": pods,
    "listClusters": {"cluster": [{"id": "c", "name": "cluster1", "allocationstate": "Enabled"}]},
}


def test_a_role_is_offered_the_parts_and_changes_that_it_permits(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, **LISTS)
        stub.log_in()
        links = page.get_by_role("navigation", name="Parts of the infrastructure").get_by_role("link")
        expect(links).to_have_text(["Zones", "Pods", "Clusters"])
        section = page.locator("[data-section=infrastructure]")
        for title in links.all_inner_texts():
            open_part(page, title)
            expect(section.locator(".row:visible").first).to_be_visible()
            assert section.locator("button[data-action]:visible, .title button:visible").count() == 0, title
        stub.answers |= {"updateCluster": {}, "addCluster": {}}
        page.reload()
        expect(page.get_by_role("link", name="Clusters")).to_have_attribute("aria-current", "page")
        expect(section.locator("button[data-action]:visible")).to_have_text(["Rename…", "Disable"])
        expect(section.locator(".title button:visible")).to_have_text(["Add cluster…"])

    chromium.run(steps)


def test_long_names_of_zones_stay_on_a_narrow_screen(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        page.set_viewport_size({"width": 360, "height": 700})
        long = [{**zone, "name": zone["name"] + "x" * 200} for zone in ZONES]
        StubbedPage(page, **LISTS | {"listZones": {"zone": long}}).log_in()
        open_part(page, "Pods")
        expect(page.locator("#infrastructure-zone")).to_be_visible()
        expect(page.locator("#pods .row")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360

    chromium.run(steps)


def test_parts_of_the_chosen_zone_are_shown_and_follow_changes(chromium: Chromium) -> None:
    def steps(page: Page) -> None:
        stub = StubbedPage(page, **LISTS)
        stub.log_in()
        zone = page.locator("#infrastructure-zone")
        expect(zone).to_be_hidden()
        open_part(page, "Pods")
        expect(page.locator("#pods .row")).to_contain_text("pod of z")
        zone.select_option(label="zone2")
        expect(page.locator("#pods .row")).to_contain_text("pod of y")
        assert violations_light_and_dark(page) == []
        stub.answers["listPods"] = {"pod": [{"id": "q", "name": "new", "netmask": "255.0.0.0"}]}
        stub.changed("pods")
        expect(page.locator("#pods .row")).to_contain_text("new")
        expect(zone).to_have_value("y")

    chromium.run(steps)
