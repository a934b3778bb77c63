# SPDX-License-Identifier: Apache-2.0
"""Page, daemon and CPVM together: Chromium, a real daemon, a real agent, QEMU machines without a guest."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from attrs import frozen
from cs import CloudStack, CloudStackException
from playwright.sync_api import Page, expect

from foreign_host_peers import HOST_ADDRESS, PASSWORD, USERNAME
from integration.api_lab import deployment
from integration.cpvm_lab.agent import CpvmAgent, bootstrap
from integration.cpvm_lab.chromium import INTERRUPTED, Chromium, passing, wait_for_picture
from integration.cpvm_lab.xapi_server import XenHost
from integration.daemon_lab import Host, host, until
from systemvm.management.first_start import FirstLogin

pytestmark = [pytest.mark.netns, pytest.mark.timeout(480)]

__all__ = ["host"]  # the fixture


@frozen
class RunningCloud:
    """A daemon whose CPVM is Up, and one machine."""

    host: Host
    login: FirstLogin
    agent: CpvmAgent
    vm_id: str
    chromium: Chromium

    @property
    def api(self) -> CloudStack:
        return CloudStack(
            endpoint=f"{self.host.page}/client/api",
            key=self.login.api_key,
            secret=self.login.secret_key,
            poll_interval=0.05,
            fetch_result=True,
        )

    def log_in(self, page: Page) -> None:
        page.goto(self.host.page)
        page.fill("[name=username]", self.login.username)
        page.fill("[name=password]", self.login.password)
        page.click("#login-form button")
        page.wait_for_selector("#vms .row")

    def view_console(self, page: Page) -> Page:
        """Click View Console, and wait for the guest's screen."""
        with page.context.expect_page() as opened:
            page.locator("#vms").get_by_role("button", name="View Console").click()
        console = opened.value
        expect_state(console, "connected")
        wait_for_picture(console)
        return console


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-state", state)


@pytest.fixture
def cloud(host: Host, tmp_path: Path) -> Iterator[RunningCloud]:
    listening = socket.create_server(("127.0.0.1", 0))
    zone_file = host.layout.zones / "zone1.yaml"
    zone = yaml.safe_load(zone_file.read_text())
    zone["console"] = {"origin": f"https://127.0.0.1:{listening.getsockname()[1]}"}
    zone_file.write_text(yaml.safe_dump(zone))
    host.start()
    host.both_running()
    login = FirstLogin.take(host.layout.first_login)
    assert login is not None
    [cpvm] = [name for name in host.machines() if name.startswith("v-")]
    host.end(signal.SIGKILL)
    identity = bootstrap(host, cpvm)
    host.start()
    with (
        closing(CpvmAgent(tmp_path, host, cpvm, identity, listening)) as agent,
        closing(Chromium()) as chromium,
    ):
        listening.close()
        until(lambda: host.machines()[cpvm].get("agentstate") == "Up", f"CPVM that is Up: {agent.log}")
        api = RunningCloud(host, login, agent, "", chromium).api
        vm = api.deployVirtualMachine(name="one", **deployment(host, api))["virtualmachine"]
        yield RunningCloud(host, login, agent, vm["id"], chromium)


def console_of_a_xenserver(cloud: RunningCloud, page: Page, xen: XenHost) -> None:
    """A host is registered, its VM is in the page with a console, and both end with the registration."""
    definition = {"hypervisor": "XenServer", "url": f"https://{HOST_ADDRESS}", "username": USERNAME}
    definition |= {"password": PASSWORD, "name": "xen-1"}
    with pytest.raises(CloudStackException) as unverified:
        cloud.api.addHost(**definition)
    assert "fingerprint" in str(unverified.value)
    [host] = cloud.api.addHost(**definition, cacertificate=xen.ca_pem)["host"]
    assert (host["state"], host["consoleaddresses"]) == ("Up", [HOST_ADDRESS])
    row = page.locator("#vms .row", has_text="web-1")
    expect(row.locator(".state")).to_have_text("Running")
    expect(row.get_by_role("button", name="Stop")).to_have_count(0)
    with page.context.expect_page() as opened:
        row.get_by_role("button", name="View Console").click()
    console = opened.value
    expect_state(console, "connected")
    wait_for_picture(console)
    console.keyboard.press("a")
    until(lambda: ord("a") in xen.pressed(), "key at the screen of the XenServer")
    console.screenshot(path=str(cloud.host.layout.root / "xenserver-console.png"))
    cloud.api.deleteHost(id=host["id"])
    expect(console.locator("#notice-title")).to_have_text("This virtual machine no longer exists")
    expect(row).to_have_count(0)


@pytest.fixture
def xen(host: Host, tmp_path: Path) -> Iterator[XenHost]:
    with closing(XenHost(tmp_path / "xen", host.namespace)) as running:
        yield running


def test_a_console_follows_its_machine_and_ends_with_the_access_to_it(
    cloud: RunningCloud, xen: XenHost
) -> None:
    api = cloud.api

    def steps(page: Page) -> None:
        cloud.log_in(page)
        console = cloud.view_console(page)
        title = console.locator("#notice-title")

        # the page shows its screen, too
        expect(page.locator("#vms .thumbnail canvas[data-shown]")).to_be_visible()

        # stop and start, by the console itself
        console.click("#power-button")
        expect(console.locator("#power-state")).to_have_text("Running")
        off = console.locator("#power-actions [data-action=turn_off]")
        off.click()
        off.click()
        expect(title).to_have_text("The virtual machine is not running")
        expect_state(console, "waiting")
        console.locator("#power-actions [data-action=start]").click()
        expect_state(console, "connected")
        wait_for_picture(console)
        console.keyboard.press("Escape")

        # reboot
        with passing(console, INTERRUPTED):
            api.rebootVirtualMachine(id=cloud.vm_id, forced=True)
        expect_state(console, "connected")
        wait_for_picture(console)

        # the daemon is killed and restarted: an open console stays open, and follows its machine as before
        cloud.host.end(signal.SIGKILL)
        wait_for_picture(console)
        cloud.host.start()
        api.stopVirtualMachine(id=cloud.vm_id, forced=True)
        expect_state(console, "waiting")
        api.startVirtualMachine(id=cloud.vm_id)
        expect_state(console, "connected")

        # the CPVM's agent is killed and restarted: it is the same session, and the daemon keeps it
        [session] = api.listConsoleSessions()["consolesession"]
        cloud.agent.kill()
        expect(console.locator("body")).not_to_have_attribute("data-state", "connected")
        cloud.agent.start()
        expect_state(console, "connected")
        wait_for_picture(console)
        kept = until(  # the daemon knows it from the proxy's next report
            lambda: [one for one in api.listConsoleSessions()["consolesession"] if one["connected"]],
            "session that is connected",
        )
        assert [one["id"] for one in kept] == [session["id"]]

        # logging out ends it, and it does not reconnect by itself
        page.click("#logout")
        expect(title).to_have_text("You logged out, and this console ended with it")
        expect_state(console, "closed")
        expect(console.locator("#notice-again")).to_be_hidden()
        console.reload()
        expect(title).to_have_text("You logged out, and this console ended with it")

        # destroying the machine ends the next one
        cloud.log_in(page)
        console = cloud.view_console(page)
        page.get_by_role("button", name="Destroy").click()
        page.locator("#confirm button.danger").click()
        expect(console.locator("#notice-title")).to_have_text("This virtual machine no longer exists")
        row = page.locator("#vms .row")
        expect(row.locator(".state")).to_have_text("Destroyed")
        row.get_by_role("button", name="Recover").click()
        expect(row.locator(".state")).to_have_text("Stopped")

        console_of_a_xenserver(cloud, page, xen)

    cloud.chromium.run(steps)
