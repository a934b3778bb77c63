# SPDX-License-Identifier: Apache-2.0
"""Traces show each step of a download or a console, its time and its failure: API, command line and page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect, sync_playwright

from booted_cloud import BootedCloud, wait_for
from console_page import CHROMIUM, log_in, new_context, scaled_ms, wait_screen

pytestmark = pytest.mark.cloud


def test_a_trace_of_a_download_has_its_steps_in_order(cloud: BootedCloud) -> None:
    row = cloud.register("traced", f"{cloud.plan.source_url}/tiny.qcow2")
    assert cloud.wait_settled(row["id"])["isready"]
    events = cloud.cli_json("trace", "traced")
    kinds = [event["type"] for event in events]
    assert kinds[0] == "TEMPLATE.CREATE"
    assert kinds[-1] == "TEMPLATE.DOWNLOAD.SUCCESS"
    assert "TEMPLATE.DOWNLOAD.ASSIGN" in kinds
    assert kinds.count("TEMPLATE.DOWNLOAD.STEP") >= 4
    descriptions = " ".join(event["description"] for event in events)
    for part in ("the store", "from https://images.example.test", "203.0.113.10", "publishing"):
        assert part in descriptions
    times = [event["createdms"] for event in events]
    assert times == sorted(times)
    # the request id of the API call is also in the worker's log
    [request_id] = {event["requestid"] for event in events}
    assert cloud.cli_json("trace", request_id) == events
    ssvm = cloud.system_vm("secondarystoragevm")["name"]
    assert request_id in cloud.ssh(ssvm, "journalctl --no-pager -u systemvm-fetch -o cat")


def test_a_trace_of_a_failed_download_shows_where_it_failed(cloud: BootedCloud) -> None:
    row = cloud.register("traced-none", f"{cloud.plan.source_url}/no-such-file.qcow2")
    assert not cloud.wait_settled(row["id"])["isready"]
    shown = cloud.cli("trace", "traced-none").stdout
    last = [line for line in shown.splitlines() if line.strip()][-1]
    assert "404" in " ".join(shown.split()[-40:])
    assert "publishes" not in shown
    assert last
    assert cloud.cli("trace", "no-such-thing", check=False).returncode == 1


def test_a_trace_of_a_console_is_shown_on_the_page(cloud: BootedCloud) -> None:
    row = cloud.register("traced-screen", f"{cloud.plan.source_url}/tiny.qcow2")
    assert cloud.wait_settled(row["id"])["isready"]
    cloud.cli("vm", "deploy", "traced-vm", "--template", "traced-screen")
    url = cloud.cli("console", "traced-vm").stdout.strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**CHROMIUM)
        context = new_context(browser, ignore_https_errors=True)
        console = context.new_page()
        console.goto(url)
        wait_screen(console)
        other_browser_page = new_context(browser, ignore_https_errors=True).new_page()
        other_browser_page.goto(url)
        expect(other_browser_page.locator("body")).to_contain_text("already", timeout=scaled_ms(30.0))
        page = context.new_page()
        log_in(page, cloud.plan.page_url, cloud.lab.login)
        page.locator("#templates .row", has_text="traced-screen").get_by_role("button", name="Steps").click()
        expect(page.locator("#steps li").last).to_contain_text("Ready", timeout=scaled_ms(60.0))
        browser.close()
    expected = {"CONSOLE.LINK", "CONSOLE.OPEN", "CONSOLE.SCREEN", "CONSOLE.REFUSE"}

    def missing() -> set[str]:
        return expected - {event["type"] for event in cloud.cli_json("trace", "traced-vm")}

    # the CPVM reports some of them after the browser has seen what they tell
    wait_for("the events of the console", lambda: not missing(), every_s=2.0)
    cloud.cli("vm", "destroy", "traced-vm", "--yes")
