# SPDX-License-Identifier: Apache-2.0
"""Uploads from a real browser on the page of a real daemon; the SSVM is a fake with faults on demand.

The daemon of these tests has no SSVM that is Up, so the calls about uploads are answered by the test.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from playwright.sync_api import Locator, Page, expect

from fake_tus_server import FakeTusServer, fake_tus_server
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host
from integration.page_visitor import Answer, Visitor, advertise

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["host"]  # the fixture

TEMPLATE = "0b0f4ffc-5a7a-4a2c-8d9b-b6f2b7a3c111"
CONTENT = hashlib.shake_256(b"an image").digest(24 << 20)
HALF = len(CONTENT) // 2


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[FakeTusServer]:
    with fake_tus_server(authority) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "debian-13.qcow2.gz"
    path.write_bytes(CONTENT)
    return path


def answer_by(server: FakeTusServer) -> Answer:
    """Return what answers calls about uploads to this server."""

    def answer(call: dict[str, str]) -> dict[str, Any] | None:
        if call["command"].startswith(("getUploadParams", "renewUploadParams")):
            return {"getuploadparams": server.parameters(TEMPLATE)}
        if call["command"] == "deleteTemplate":
            return {"jobid": "a-job"}
        if call.get("jobid") == "a-job":
            return {"jobstatus": 1, "jobresult": {}}
        return None

    return answer


@pytest.fixture
def visitor(host: Host, server: FakeTusServer) -> Visitor:
    advertise(host, server.origin)
    host.start()
    return Visitor(host, answer_by(server))


def begin(page: Page, image: Path) -> Locator:
    page.click("#open-upload")
    page.set_input_files("#upload [name=file]", image)
    expect(page.locator("#upload [name=name]")).to_have_value("debian-13")
    expect(page.locator("#upload [name=format]")).to_have_value("QCOW2")
    page.click("#upload button.primary")
    return page.locator("#uploads .row")


def expect_complete(page: Page, server: FakeTusServer) -> None:
    expect(page.locator("#toasts")).to_contain_text("debian-13 is uploaded")
    expect(page.locator("#uploads .row")).to_have_count(0)
    [upload] = server.uploads.values()
    assert bytes(upload.data) == CONTENT
    assert page.evaluate("Object.values(localStorage).join()") in ("", "[]")


def wait_half(page: Page, server: FakeTusServer) -> None:
    """Wait until the server has stopped to read."""
    while not server.uploads or len(next(iter(server.uploads.values())).data) < HALF:
        page.wait_for_timeout(50)


def test_a_file_is_uploaded(chromium: Chromium, visitor: Visitor, server: FakeTusServer, image: Path) -> None:
    def steps(page: Page) -> None:
        visitor.open(page)
        begin(page, image)
        expect_complete(page, server)

    chromium.run(steps)
    [call] = visitor.calls
    assert (call["command"], call["format"], call["name"]) == (
        "getUploadParamsForTemplate",
        "QCOW2",
        "debian-13",
    )
    assert server.methods() == ["HEAD", "POST", "PATCH"]


def test_a_paused_upload_continues_where_it_was(
    chromium: Chromium, visitor: Visitor, server: FakeTusServer, image: Path
) -> None:
    server.hold(HALF)

    def steps(page: Page) -> None:
        visitor.open(page)
        row = begin(page, image)
        wait_half(page, server)
        bar = row.get_by_role("progressbar")
        expect(bar).to_have_attribute("aria-valuenow", re.compile(r"^([4-9]\d|100)$"))
        expect(row).to_contain_text("of 24.0 MiB")
        row.get_by_role("button", name="Pause").click()
        expect(row).to_have_attribute("data-state", "paused")
        server.release()
        row.get_by_role("button", name="Continue").click()
        expect_complete(page, server)

    chromium.run(steps)
    methods = [method for method, _ in server.requests]
    assert methods.count("POST") == 1
    assert "HEAD" in methods  # it asks where to continue
    first, *resumed = (int(offset) for method, offset in server.requests if method == "PATCH")
    assert first == 0
    # none when all of it had left the browser before it paused
    assert all(offset >= HALF for offset in resumed)


def test_an_upload_continues_after_a_reload_with_the_same_file_only(
    chromium: Chromium, visitor: Visitor, server: FakeTusServer, image: Path, tmp_path: Path
) -> None:
    server.hold(HALF)
    other = tmp_path / "other.qcow2"
    other.write_bytes(b"another file")

    def steps(page: Page) -> None:
        visitor.open(page)
        begin(page, image)
        wait_half(page, server)
        stored = page.evaluate("Object.values(localStorage).join()")
        assert TEMPLATE in stored and server.signature not in stored
        page.reload()
        server.release()
        row = page.locator("#uploads .row")
        expect(row).to_contain_text("choose debian-13.qcow2.gz again")
        choose(page, row, other)
        expect(page.locator("#toasts")).to_contain_text("This is another file")
        expect(row).to_have_attribute("data-state", "needs its file")
        choose(page, row, image)
        expect_complete(page, server)

    chromium.run(steps)
    assert server.methods().count("POST") == 1
    assert visitor.commands == ["getUploadParamsForTemplate", "renewUploadParamsForTemplate"]


def choose(page: Page, row: Locator, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        row.get_by_role("button", name="Choose file…").click()
    chooser.value.set_files(path)


def test_an_untrusted_certificate_is_explained_before_anything_is_sent(
    chromium: Chromium, visitor: Visitor, server: FakeTusServer, image: Path
) -> None:
    def steps(page: Page) -> None:
        visitor.open(page)
        row = begin(page, image)
        expect(row).to_have_attribute("data-state", "not connected")
        expect(row).to_contain_text(f"cannot connect to {server.origin}")
        link = row.get_by_role("link", name=f"open {server.origin}")
        expect(link).to_have_attribute("href", f"{server.origin}/")
        with page.expect_download() as root:
            row.get_by_role("link", name="CA certificate").click()
        assert b"BEGIN CERTIFICATE" in Path(root.value.path()).read_bytes()
        row.get_by_role("button", name="Check again").click()
        expect(row).to_have_attribute("data-state", "not connected")
        assert server.requests == []
        accept_certificates(page)
        row.get_by_role("button", name="Check again").click()
        expect_complete(page, server)

    chromium.run(steps, trusts_all=False)


def accept_certificates(page: Page) -> None:
    """Do what a user does who opens the address and accepts its certificate."""
    page.context.new_cdp_session(page).send("Security.setIgnoreCertificateErrors", {"ignore": True})


def test_a_page_that_is_older_than_the_ssvm_asks_for_a_reload(
    chromium: Chromium, visitor: Visitor, server: FakeTusServer, authority: trustme.CA, image: Path
) -> None:
    def steps(page: Page) -> None:
        visitor.open(page)
        with fake_tus_server(authority) as newer:
            visitor.answer = answer_by(newer)
            row = begin(page, image)
            expect(row).to_have_attribute("data-state", "needs a reload")
            assert newer.requests == []
            row.get_by_role("button", name="Reload page").click()
            expect(row).to_have_attribute("data-state", "needs its file")

    chromium.run(steps, ignored="Content Security Policy")


@pytest.mark.parametrize("status", [503, 409, 429])
def test_a_passing_error_is_retried(
    chromium: Chromium, visitor: Visitor, server: FakeTusServer, image: Path, status: int
) -> None:
    server.refusals = [status]

    def steps(page: Page) -> None:
        visitor.open(page)
        begin(page, image)
        expect_complete(page, server)

    chromium.run(steps)
    assert server.methods() == ["HEAD", "POST", "PATCH", "HEAD", "PATCH"]


def test_a_refused_file_is_explained_and_can_be_cancelled(
    chromium: Chromium, visitor: Visitor, server: FakeTusServer, image: Path
) -> None:
    server.refusals = [400]

    def steps(page: Page) -> None:
        visitor.open(page)
        row = begin(page, image)
        expect(row).to_contain_text("image is not QCOW2: it is a picture")
        expect(row).to_have_attribute("data-state", "failed")
        row.get_by_role("button", name="Cancel").click()
        page.click("#confirm button.danger")
        expect(row).to_have_count(0)

    chromium.run(steps)
    assert visitor.commands[-2:] == ["deleteTemplate", "queryAsyncJobResult"]


def test_a_daemon_without_an_ssvm_says_so(chromium: Chromium, visitor: Visitor, image: Path) -> None:
    def steps(page: Page) -> None:
        visitor.open(page)
        page.unroute("**/client/api")
        page.click("#open-upload")
        page.set_input_files("#upload [name=file]", image)
        page.click("#upload button.primary")
        expect(page.locator("#upload .error")).to_be_visible()

    chromium.run(steps)
