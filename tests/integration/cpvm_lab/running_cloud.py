# SPDX-License-Identifier: Apache-2.0
"""A real daemon with a zone, a real CPVM agent that is Up, and one machine without a guest."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import yaml
from attrs import frozen
from cs import CloudStack
from playwright.sync_api import Page, expect

from console_page import open_section
from integration.api_lab import deployment
from integration.cpvm_lab.agent import CpvmAgent, bootstrap
from integration.cpvm_lab.chromium import wait_for_picture
from integration.daemon_lab import Host, until
from systemvm.management.first_start import FirstLogin


@frozen
class RunningCloud:
    """A daemon whose CPVM is Up, and one machine."""

    host: Host
    login: FirstLogin
    agent: CpvmAgent
    vm_id: str

    @property
    def api(self) -> CloudStack:
        return CloudStack(
            endpoint=f"{self.host.page}/client/api",
            key=self.login.api_key,
            secret=self.login.secret_key,
            timeout=120,
            poll_interval=0.05,
            fetch_result=True,
        )

    def log_in(self, page: Page) -> None:
        page.goto(self.host.page)
        page.fill("[name=username]", self.login.username)
        page.fill("[name=password]", self.login.password)
        page.click("#login-form button")
        open_section(page, "Virtual machines")
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


@contextmanager
def running_cloud(host: Host, tmp_path: Path) -> Iterator[RunningCloud]:
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
    with closing(CpvmAgent(tmp_path, host, cpvm, identity, listening)) as agent:
        listening.close()
        until(lambda: host.machines()[cpvm].get("agentstate") == "Up", f"CPVM that is Up: {agent.log}")
        api = RunningCloud(host, login, agent, "").api
        vm = api.deployVirtualMachine(name="one", **deployment(host, api))["virtualmachine"]
        yield RunningCloud(host, login, agent, vm["id"])
