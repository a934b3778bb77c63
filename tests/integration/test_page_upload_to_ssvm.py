# SPDX-License-Identifier: Apache-2.0
"""A real browser on the public network uploads to the SSVM's real processes.

The page's files come from the package; the test answers the page's calls as the daemon would.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import pytest_twisted
import trustme
from playwright.sync_api import Page, Route, expect
from twisted.internet.threads import deferToThread

from integration.cpvm_lab.chromium import Chromium, trusting
from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, published
from integration.ssvm_lab.public_client import ORIGIN, identity
from integration.ssvm_lab.uploads import CONTENT, PAGE, upload_request
from integration.ssvm_lab.world import VM, Builder, World
from systemvm.management.page.resource import content_policy
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_SETUP
from systemvm.wire.storage import DownloadState, DownloadStatus
from systemvm.wire.upload import TEMPLATE_UPLOAD, UploadRequest

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
__all__ = ["daemon"]  # a fixture
TEMPLATE = "0b0f4ffc-5a7a-4a2c-8d9b-b6f2b7a3c111"
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory), "256m") as built:
        yield built


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def chromium(world: World, authority: trustme.CA, tmp_path: Path) -> Iterator[Chromium]:
    """A browser in the namespace of the public network, whose store has the cloud's root."""
    script = tmp_path / "chromium"
    script.write_text(f'#!/bin/sh\nexec nsenter --net=/run/netns/{world.world_namespace} chromium "$@"\n')
    script.chmod(0o755)
    chromium = Chromium(script, trusting(tmp_path / "home", authority.cert_pem.bytes()))
    yield chromium
    chromium.close()


#: Takes the place of the daemon's stream of changes: it says once that all can have changed, and stays open.
CHANGES = """
window.EventSource = class extends EventTarget {
  constructor() {
    super();
    setTimeout(() => this.dispatchEvent(new MessageEvent("message", { data: '["*"]' })));
  }
  close() {}
};
"""
COMMANDS = (
    "listZones",
    "listTemplates",
    "listIsos",
    "registerTemplate",
    "getUploadParamsForTemplate",
    "getUploadParamsForIso",
)


class DaemonOnPage:
    """What the page gets from its origin: its files, and the answers of the API."""

    def __init__(self, upload: UploadRequest) -> None:
        self._upload = upload
        self.commands: list[str] = []

    def open(self, page: Page) -> None:
        page.route(f"{PAGE}/**", self._respond)
        page.add_init_script(CHANGES)
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(f"{PAGE}/index.html")
        page.fill("[name=password]", "any")
        page.click("#login-form button")
        expect(page.locator("#live")).to_have_text("live")

    def _respond(self, route: Route) -> None:
        name = route.request.url.removeprefix(f"{PAGE}/")
        if name != "client/api":
            body = files("systemvm.management.page").joinpath("static", name).read_bytes()
            headers = {
                "Content-Type": TYPES[name.rpartition(".")[2]],
                "Content-Security-Policy": content_policy(ORIGIN).decode(),
            }
            route.fulfill(body=body, headers=headers)
            return
        command = dict(parse_qsl(route.request.post_data or ""))["command"]
        answer = {"response": self._answer(command)}
        route.fulfill(body=json.dumps(answer), content_type="application/json")

    def _answer(self, command: str) -> dict[str, Any]:
        self.commands.append(command)
        if command == "login":
            return {
                "sessionkey": "k",
                "userid": "u",
                "username": "admin",
                "type": "1",
                "is2faverified": "true",
            }
        if command == "listApis":
            return {"api": [{"name": name} for name in COMMANDS]}
        if command == "listZones":
            return {"zone": [{"id": "z", "name": "zone1"}]}
        if "UploadParamsFor" in command:
            upload = self._upload
            parameters = {
                "id": TEMPLATE, "postURL": upload.post_url, "metadata": upload.metadata,
                "expires": upload.expires, "signature": upload.signature,
            }  # fmt: skip
            return {"getuploadparams": parameters}
        return {}


def fill_in(page: Page, image: Path) -> None:
    page.click("#open-upload")
    page.set_input_files("#upload [name=file]", image)
    page.click("#upload button.primary")


async def order(daemon: Daemon, authority: trustme.CA, **more: Any) -> UploadRequest:
    """Have the SSVM wait for an upload, as the daemon does."""
    await daemon.call(EXTRACT_SETUP, identity(authority, VM), Acknowledgement)
    request = upload_request(CONTENT, **more)
    await daemon.call(TEMPLATE_UPLOAD, request, DownloadStatus)
    return request


@pytest_twisted.ensureDeferred
async def test_a_browser_uploads_pauses_reloads_and_completes(
    daemon: Daemon, world: World, chromium: Chromium, authority: trustme.CA, tmp_path: Path
) -> None:
    request = await order(daemon, authority)
    ended = daemon.end_of(request.job_id, 120)
    image = tmp_path / "image.raw"
    image.write_bytes(CONTENT)
    page_of_daemon = DaemonOnPage(request)

    def steps(page: Page) -> None:
        page_of_daemon.open(page)
        slow_down(page, 200_000)
        fill_in(page, image)
        row = page.locator("#uploads .row")
        expect(row).to_have_attribute("data-state", "uploading")
        expect(row).to_contain_text("left")
        row.get_by_role("button", name="Pause").click()
        expect(row).to_have_attribute("data-state", "paused")
        row.get_by_role("button", name="Continue").click()
        expect(row).to_have_attribute("data-state", "uploading")
        page.reload()
        expect(row).to_have_attribute("data-state", "needs its file")
        slow_down(page, -1)
        with page.expect_file_chooser() as chooser:
            row.get_by_role("button", name="Choose file…").click()
        chooser.value.set_files(image)
        expect(page.locator("#toasts")).to_contain_text("image is uploaded")

    await deferToThread(chromium.run, steps, trusts_all=False)
    status = await ended
    assert published(world, status).read_bytes() == CONTENT


def slow_down(page: Page, bytes_per_s: int) -> None:
    """Limit what the page sends, so that there is time to pause it; -1 ends the limit."""
    session = page.context.new_cdp_session(page)
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", conditions)


@pytest_twisted.ensureDeferred
async def test_a_browser_learns_why_a_file_is_refused(
    daemon: Daemon, world: World, chromium: Chromium, authority: trustme.CA, tmp_path: Path
) -> None:
    request = await order(daemon, authority)
    ended = daemon.end_of(request.job_id, 120)
    image = tmp_path / "image.raw"
    image.write_bytes(CONTENT[:-512] + bytes(512))

    def steps(page: Page) -> str:
        DaemonOnPage(request).open(page)
        fill_in(page, image)
        row = page.locator("#uploads .row")
        expect(row).to_have_attribute("data-state", "failed")
        return row.locator(".hint").inner_text()

    why = await deferToThread(chromium.run, steps, trusts_all=False)
    status = await ended
    assert status.state is DownloadState.DOWNLOAD_ERROR
    assert status.error is not None and status.error.message in why


@pytest_twisted.ensureDeferred
async def test_a_page_of_another_origin_gets_no_answer(
    daemon: Daemon, world: World, chromium: Chromium, authority: trustme.CA, tmp_path: Path
) -> None:
    request = await order(daemon, authority, allowed_origins=["https://other.example.test"])
    image = tmp_path / "image.raw"
    image.write_bytes(CONTENT)

    def steps(page: Page) -> None:
        DaemonOnPage(request).open(page)
        fill_in(page, image)
        row = page.locator("#uploads .row")
        expect(row).to_have_attribute("data-state", "uploading")
        with page.expect_event("requestfailed", lambda lost: lost.url == request.post_url):
            pass
        expect(row.locator(".sent")).to_contain_text("0 B of")

    await deferToThread(chromium.run, steps, trusts_all=False)
    assert world.leftovers() == [] or world.job_directories()
