# SPDX-License-Identifier: Apache-2.0
"""The console flow: a click on View Console shows the guest's screen in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from booted_cloud import BootedCloud
from console_page import CHROMIUM, log_in, new_context, open_section, scaled_ms, wait_colour, wait_screen

pytestmark = pytest.mark.cloud


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    # the lab's public CA is not in the browser's store; test_public_endpoints.py tests certificates
    context = new_context(browser, ignore_https_errors=True, viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture(scope="module")
def machine(cloud: BootedCloud) -> dict[str, Any]:
    """A running VM, deployed as a linked clone of a Ready template."""
    row = cloud.register("console-tiny", f"{cloud.plan.source_url}/tiny.qcow2")
    assert cloud.wait_settled(row["id"])["isready"]
    cloud.cli("vm", "deploy", "screen", "--template", "console-tiny")
    return next(vm for vm in cloud.cli_json("vm", "list") if vm["displayname"] == "screen")


def console_url(cloud: BootedCloud, machine: dict[str, Any]) -> str:
    endpoint = cloud.api.createConsoleEndpoint(virtualmachineid=machine["id"])["consoleendpoint"]
    assert endpoint["success"], endpoint
    assert endpoint["websocket"]["path"] == "websockify"
    found: str = endpoint["url"]
    return found


def test_view_console_shows_the_screen_and_takes_keys(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    page = context.new_page()
    log_in(page, cloud.plan.page_url, cloud.lab.login)
    open_section(page, "Virtual machines")
    row = page.locator("#vms .row", has_text="screen")
    with context.expect_page() as opened:
        row.get_by_role("button", name="View Console").click()
    console = opened.value
    wait_screen(console)
    wait_colour(console, "blue")
    # the token is removed from the address bar at its first use
    assert "token" not in console.url
    console.locator("#screen canvas").click()
    console.keyboard.type("screen green\n", delay=60)
    wait_colour(console, "green")


def test_the_page_updates_without_a_reload(cloud: BootedCloud, context: BrowserContext) -> None:
    page = context.new_page()
    log_in(page, cloud.plan.page_url, cloud.lab.login)
    page.click("#open-register")
    page.fill("#fields [name=name]", "by hand")
    page.fill("#fields [name=url]", f"{cloud.plan.source_url}/tiny.qcow2")
    page.click("#fields button.primary")
    row = page.locator("#templates .row", has_text="by hand")
    expect(row.locator(".state")).to_have_text("Ready", timeout=scaled_ms(120.0))
    expect(row).to_contain_text("Download Complete", timeout=scaled_ms(60.0))


def test_a_second_use_of_a_token_is_refused_with_a_message(
    cloud: BootedCloud, machine: dict[str, Any], browser: Browser, context: BrowserContext
) -> None:
    url = console_url(cloud, machine)
    first = context.new_page()
    first.goto(url)
    wait_screen(first)
    # a reload by the same browser continues: the cookie, not the token, authorizes it
    first.reload()
    wait_screen(first)
    other_browser = new_context(browser, ignore_https_errors=True)
    second = other_browser.new_page()
    second.goto(url)
    expect(second.locator("body")).to_contain_text("already", timeout=scaled_ms(30.0))
    assert second.locator("#screen canvas").count() == 0
    other_browser.close()


def test_a_link_preview_does_not_consume_the_token(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    url = console_url(cloud, machine)
    for method in ("get", "head"):
        response = getattr(context.request, method)(url)
        assert response.status == 200
        assert response.headers["cache-control"] == "no-store"
    page = context.new_page()
    page.goto(url)
    wait_screen(page)


def test_no_log_contains_a_token(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    url = console_url(cloud, machine)
    token = url.partition("token=")[2].partition("&")[0]
    assert len(token) >= 43
    page = context.new_page()
    page.goto(url)
    wait_screen(page)
    journal = cloud.ssh(cloud.system_vm("consoleproxy")["name"], "journalctl --no-pager -o cat")
    assert token not in journal
    assert "console" in journal, "the journal must record the session, without its secret"
    assert token not in cloud.lab.daemon_log.read_text(errors="replace")
    database = cloud.lab.root / "var/lib/systemvm/systemvm.sqlite"
    for file in database.parent.glob(database.name + "*"):
        assert token.encode() not in file.read_bytes()


def test_an_iso_boots_and_its_screen_is_shown(cloud: BootedCloud, context: BrowserContext) -> None:
    row = cloud.register("console-iso", f"{cloud.plan.source_url}/ipxe.iso", "ISO")
    assert cloud.wait_settled(row["id"])["isready"]
    cloud.cli("vm", "deploy", "from-iso", "--iso", "console-iso")
    url = cloud.cli("console", "from-iso").stdout.strip()
    page = context.new_page()
    page.goto(url)
    wait_screen(page)
    cloud.cli("vm", "destroy", "from-iso", "--yes")


def test_a_stopped_machine_has_no_console(
    cloud: BootedCloud, machine: dict[str, Any], context: BrowserContext
) -> None:
    page = context.new_page()
    page.goto(console_url(cloud, machine))
    wait_screen(page)
    cloud.cli("vm", "stop", "screen", "--forced")
    expect(page.locator("body")).to_contain_text(
        re.compile("closed its screen|not running"), timeout=scaled_ms(30.0)
    )
    endpoint = cloud.api.createConsoleEndpoint(virtualmachineid=machine["id"])["consoleendpoint"]
    assert endpoint["success"] is False
    assert "must be running" in endpoint["details"]
    assert not endpoint.get("url")
    cloud.cli("vm", "start", "screen")
    wait_screen(page)  # it reconnects by itself
