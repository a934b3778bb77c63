# SPDX-License-Identifier: Apache-2.0
"""Hosts of other hypervisors on the page of a real daemon: registered, their consoles opened, removed.

XAPI, vCenter and ESXi are protocol peers; browsers, daemon and console proxy are real.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from attrs import frozen
from playwright.sync_api import Locator, Page, expect

from console_page import open_section
from foreign_host_peers import HOST_ADDRESS, PASSWORD, USERNAME
from integration.cpvm_lab.chromium import Chromium, wait_for_picture
from integration.cpvm_lab.firefox import Firefox
from integration.cpvm_lab.registered_host import RegisteredHost
from integration.cpvm_lab.running_cloud import RunningCloud, expect_state, running_cloud
from integration.cpvm_lab.vcenter_server import ESXI_ADDRESS, VCENTER_ADDRESS, VcenterHost
from integration.cpvm_lab.xapi_server import XenHost
from integration.daemon_lab import Host, host, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]

__all__ = ["host"]  # the fixture


@frozen
class Registration:
    """What an administrator fills in, and what the page shows of it then."""

    peer: RegisteredHost
    hypervisor: str
    name: str
    address: str
    consoles: str
    machine: str


@pytest.fixture
def cloud(host: Host, tmp_path: Path) -> Iterator[RunningCloud]:
    with running_cloud(host, tmp_path) as cloud:
        yield cloud


@pytest.fixture
def xen(host: Host, tmp_path: Path) -> Iterator[Registration]:
    with closing(XenHost(tmp_path / "xen", host.namespace)) as peer:
        yield Registration(peer, "XenServer", "xen-1", HOST_ADDRESS, HOST_ADDRESS, "web-1")


@pytest.fixture
def vcenter(host: Host, tmp_path: Path) -> Iterator[Registration]:
    with closing(VcenterHost(tmp_path / "vcenter", host.namespace)) as peer:
        yield Registration(peer, "VMware", "vcenter-1", VCENTER_ADDRESS, ESXI_ADDRESS, "db-1")


def register(page: Page, wanted: Registration, *, by_fingerprint: bool) -> Locator:
    """Fill in the dialog, first without anything that verifies the host; return its row."""
    open_section(page, "Hosts")
    page.click("#open-host")
    dialog = page.locator("#fields")
    dialog.get_by_label("Hypervisor").select_option(wanted.hypervisor)
    dialog.get_by_label("Name").fill(wanted.name)
    dialog.get_by_label("URL").fill(f"https://{wanted.address}")
    dialog.get_by_label("User").fill(USERNAME)
    dialog.get_by_label("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Register").click()
    error = dialog.locator(".error")
    if by_fingerprint:
        expect(error).to_contain_text(wanted.peer.fingerprint)
        dialog.get_by_label("Fingerprint").fill(wanted.peer.fingerprint)
    else:  # each ESXi host has another certificate than the vCenter
        expect(error).to_contain_text("cacertificate is missing")
        dialog.get_by_label("Or the CA").fill(wanted.peer.ca_pem)
    dialog.get_by_role("button", name="Register").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#toasts")).to_contain_text(f"{wanted.name} is registered.")
    row = page.locator("#hosts .row", has_text=wanted.name)
    expect(row).to_contain_text(f"1 VM · consoles at {wanted.consoles}")
    return row


def rename(page: Page, row: Locator, name: str) -> None:
    """Give the host of a row another name; its account and its trust stay as they are."""
    row.get_by_role("button", name="Edit…").click()
    page.locator("#fields").get_by_label("Name", exact=True).fill(name)
    page.locator("#fields").get_by_role("button", name="Save").click()
    expect(page.locator("#fields")).to_be_hidden()


def console_of(page: Page, wanted: Registration, key: str) -> Page:
    """Open the console of the host's machine from the list, and press a key in it."""
    open_section(page, "Virtual machines")
    machine = page.locator("#vms .row", has_text=wanted.machine)
    expect(machine.locator(".state")).to_have_text("Running")
    expect(machine.get_by_role("button", name="Stop")).to_have_count(0)
    with page.context.expect_page() as opened:
        machine.get_by_role("button", name="View Console").click()
    console: Page = opened.value
    expect_state(console, "connected")
    wait_for_picture(console)
    before = wanted.peer.pressed().count(ord(key))
    console.keyboard.press(key)
    until(lambda: wanted.peer.pressed().count(ord(key)) > before, f"key at the screen of {wanted.name}")
    return console


def remove(page: Page, row: Locator, wanted: Registration, console: Page) -> None:
    open_section(page, "Hosts")
    row.get_by_role("button", name="Remove").click()
    page.locator("#confirm button.danger").click()
    expect(console.locator("#notice-title")).to_have_text("This virtual machine no longer exists")
    expect(row).to_have_count(0)
    open_section(page, "Virtual machines")
    expect(page.locator("#vms .row", has_text=wanted.machine)).to_have_count(0)


def test_a_host_is_registered_shows_its_consoles_and_is_removed_on_the_page(
    cloud: RunningCloud, xen: Registration, vcenter: Registration
) -> None:
    browsers: tuple[tuple[type[Chromium], str], ...] = ((Chromium, "c"), (Firefox, "f"))

    def steps(page: Page, key: str) -> None:
        cloud.log_in(page)
        for wanted in (xen, vcenter):
            row = register(page, wanted, by_fingerprint=wanted is xen)
            rename(page, row, "renamed")
            rename(page, page.locator("#hosts .row", has_text="renamed"), wanted.name)
            console = console_of(page, wanted, key)
            remove(page, row, wanted, console)

    for kind, key in browsers:
        with closing(kind()) as browser:
            browser.run(partial(steps, key=key))
