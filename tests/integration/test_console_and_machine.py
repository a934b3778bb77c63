# SPDX-License-Identifier: Apache-2.0
"""Page, daemon and CPVM together: Chromium, a real daemon, a real agent, QEMU machines without a guest."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from integration.cpvm_lab.chromium import INTERRUPTED, Chromium, passing, wait_for_picture
from integration.cpvm_lab.running_cloud import RunningCloud, expect_state, running_cloud
from integration.daemon_lab import Host, host, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(480)]

__all__ = ["host"]  # the fixture


@pytest.fixture
def cloud(host: Host, tmp_path: Path) -> Iterator[RunningCloud]:
    with running_cloud(host, tmp_path) as cloud:
        yield cloud


def test_a_console_follows_its_machine_and_ends_with_the_access_to_it(cloud: RunningCloud) -> None:
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

    with closing(Chromium()) as chromium:
        chromium.run(steps)
