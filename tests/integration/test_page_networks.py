# SPDX-License-Identifier: Apache-2.0
"""Guest networks on the page of a real daemon, by keyboard: an isolated one and an L2 one of a user."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from playwright.sync_api import Page, expect

from accessibility import violations
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host, until
from integration.page_user import add_account, agree, chromium, log_in, press
from systemvm.host.host_file import FILE_NAME
from systemvm.management.samples import read_sample

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "host"]  # fixtures


def permit_vlans(host: Host) -> None:
    """Let the zone have isolated networks, each of which takes a VLAN of the host's guest bridge."""
    file = yaml.safe_load(read_sample(FILE_NAME))
    file["labels"]["cloudbr3"] |= {"vlans": ["100-101"], "guest_cidr": "10.20.0.0/16"}
    (host.layout.etc / FILE_NAME).write_text(yaml.safe_dump(file))


def give_vlans(host: Host) -> None:
    def guest() -> Any:
        networks = host.call("listPhysicalNetworks")["physicalnetwork"]
        return next(network for network in networks if network["name"] == "cloudbr3")

    host.call("updatePhysicalNetwork", id=guest()["id"], vlan="100-101")
    until(lambda: guest().get("vlan") == "100-101", "VLANs of the physical network")


def test_a_user_creates_restarts_and_deletes_a_network(host: Host, chromium: Chromium) -> None:
    permit_vlans(host)
    host.start()
    give_vlans(host)
    add_account(host, "una")

    def steps(page: Page) -> None:
        log_in(page, host, "una")
        open_section(page, "Networks")
        rows, dialog = page.locator("#networks .row"), page.locator("#fields")
        expect(rows).to_have_count(1)  # the zone's own, which no user changes
        expect(rows.get_by_role("button")).to_have_count(0)
        press(page.get_by_role("button", name="Create…"))
        expect(dialog.get_by_label("Name", exact=True)).to_be_focused()
        page.keyboard.type("lab")
        expect(dialog.get_by_label("Type").locator("option")).to_have_count(2)  # no shared one
        dialog.get_by_label("Gateway").fill("10.20.0.1")
        assert violations(page) == []
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text("netmask")
        dialog.get_by_label("Netmask").fill("255.255.255.0")
        page.keyboard.press("Enter")
        lab = rows.filter(has_text="lab")
        expect(lab).to_contain_text("10.20.0.0/24")
        expect(lab).to_contain_text("Isolated")
        press(lab.get_by_role("button", name="Edit…"))
        dialog.get_by_label("Description").fill("for tests")
        page.keyboard.press("Enter")
        expect(lab).to_contain_text("for tests")
        press(lab.get_by_role("button", name="Restart"))
        agree(page, lab)
        expect(page.locator("#toasts .bad")).to_have_count(0)
        [network] = host.call("listNetworks", type="Isolated", listall="true")["network"]
        assert (network["name"], network["displaytext"], network["account"]) == ("lab", "for tests", "una")
        press(page.get_by_role("button", name="Create…"))
        dialog.get_by_label("Name", exact=True).fill("wire")
        dialog.get_by_label("Type").select_option("L2: DefaultL2NetworkOfferingConfigDrive")
        page.keyboard.press("Enter")
        wire = rows.filter(has_text="wire")
        expect(wire).to_contain_text("L2")
        expect(wire.get_by_role("button", name="Restart")).to_have_count(0)  # it has no services
        press(wire.get_by_role("button", name="Delete"))
        press(page.locator("#confirm button.danger"))
        expect(rows).to_have_count(2)
        press(lab.get_by_role("button", name="Delete"))
        press(page.locator("#confirm button.danger"))
        expect(rows).to_have_count(1)
        assert host.call("listNetworks", type="Isolated", listall="true").get("network", []) == []

    chromium.run(steps)
