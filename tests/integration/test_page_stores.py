# SPDX-License-Identifier: Apache-2.0
"""Image stores and links to images on the page of a real daemon, in a real browser."""

from __future__ import annotations

import sqlite3
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from playwright.sync_api import Page, expect

from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host, shared_host
from integration.page_user import chromium
from integration.page_visitor import Visitor, advertise

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "host", "shared_host"]  # fixtures

GIB = 1 << 30
LINK = "https://203.0.113.101/userdata/2c7b2a30-8f4f-4f4e-9d53-6d1f2b7a9c10/tiny.qcow2"


def daemon_answers(call: dict[str, str]) -> None:
    return None


def set_usage(host: Host, name: str, used_bytes: int) -> None:
    with sqlite3.connect(host.layout.database, timeout=60) as database:
        changes = (100 * GIB, used_bytes, name)
        database.execute("UPDATE image_stores SET capacity_bytes = ?, used_bytes = ? WHERE name = ?", changes)


def test_stores_are_added_changed_moved_and_deleted(host: Host, chromium: Chromium) -> None:
    host.start()
    visitor = Visitor(host, daemon_answers)

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Image stores")
        page.click("#open-store")
        page.fill("#store-add [name=name]", "third")
        page.fill("#store-add [name=url]", "nfs://10.12.0.3/export/third")
        options = page.locator("#store-add [name=options]")
        options.fill("nconnect")
        page.click("#store-add button.primary")
        expect(options).to_have_attribute("aria-invalid", "true")  # of details[0].nfsmountopts
        expect(page.locator("#store-add .pair:has([name=options]) + .error")).to_contain_text("nconnect")
        options.fill("nconnect=4")
        page.click("#store-add button.primary")
        third = page.locator("#stores .card", has_text="third")
        expect(third).to_contain_text("nfs://10.12.0.3/export/third")
        expect(third.locator(".state")).to_have_text("writable")

        third.get_by_role("button", name="Edit…").click()
        page.check("#store-edit [name=readonly]")
        page.fill("#store-edit [name=name]", "archive")
        page.click("#store-edit button.primary")
        archive = page.locator("#stores .card", has_text="archive")
        expect(archive.locator(".state")).to_have_text("read-only")

        first = page.locator("#stores .card", has_text="10.12.0.2")
        first.get_by_role("button", name="Move content…").click()
        expect(page.locator("#toasts")).to_contain_text("There is no other writable store in zone1")
        archive.get_by_role("button", name="Edit…").click()
        page.uncheck("#store-edit [name=readonly]")
        page.click("#store-edit button.primary")
        expect(archive.locator(".state")).to_have_text("writable")
        archive.get_by_role("button", name="Move content…").click()
        page.check("#store-move [value=retire]")
        page.click("#store-move button.primary")
        expect(page.locator("#toasts")).to_contain_text("The move off archive is complete")
        expect(archive.locator(".state")).to_have_text("retiring")
        archive.get_by_role("button", name="Cancel move").click()
        expect(archive.locator(".state")).to_have_text("writable")

        archive.get_by_role("button", name="Delete").click()
        page.click("#confirm button.danger")
        expect(archive).to_have_count(0)

    chromium.run(steps)


def test_a_bucket_is_added_with_its_keys_and_gets_other_ones(shared_host: Host, chromium: Chromium) -> None:
    ca = trustme.CA().cert_pem.bytes().decode()
    refusals = [{"errorcode": 530, "errortext": "S3 server refused a list", "hint": "check accesskey"}]
    bucket = {
        "id": "b-1", "name": "bucket", "zonename": "zone1", "url": "https://s3.example.test/images",
        "providername": "S3", "readonly": False, "retiring": False, "disksizeused": 3 * GIB,
    }  # fmt: skip

    def answer(call: dict[str, str]) -> dict[str, Any] | None:
        match call["command"]:
            case "addImageStore" | "updateImageStore":
                return refusals.pop() if refusals else {"imagestore": bucket}
            case "listImageStores":
                return {"imagestore": [bucket]}
        return None

    visitor = Visitor(shared_host, answer)

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Image stores")
        dialog = page.locator("#store-add")
        page.click("#open-store")
        page.fill("#store-add [name=name]", "bucket")
        page.select_option("#store-add [name=provider]", "S3")
        expect(dialog.locator("[name=url]")).to_be_hidden()
        page.fill("#store-add [name=endpoint]", "https://s3.example.test/path")
        page.fill("#store-add [name=bucket]", "images")
        page.fill("#store-add [name=accesskey]", "AKID")
        page.click("#store-add button.primary")
        expect(dialog).to_be_visible()
        assert "addImageStore" not in visitor.commands, "endpoint and secret key are missing"
        page.fill("#store-add [name=endpoint]", "https://s3.example.test")
        page.fill("#store-add [name=secretkey]", "very-secret")
        page.fill("#store-add [name=capacity]", "2")
        page.fill("#store-add [name=cacertificate]", ca)
        page.uncheck("#store-add [name=publiclinks]")
        page.click("#store-add button.primary")
        expect(dialog.locator(".error")).to_have_text("S3 server refused a list: check accesskey")
        page.click("#store-add button.primary")
        expect(dialog).to_be_hidden()
        card = page.locator("#stores .card", has_text="https://s3.example.test/images")
        expect(card).to_contain_text("3.0 GiB used, no limit")

        page.click("#open-store")
        expect(dialog.locator("[name=url]")).to_be_visible()
        expect(dialog.locator("[name=secretkey]")).to_be_hidden()
        expect(dialog.locator("[name=secretkey]")).to_have_value("")
        page.keyboard.press("Escape")

        card.get_by_role("button", name="Edit…").click()
        page.fill("#store-edit [name=accesskey]", "AKID2")
        page.fill("#store-edit [name=secretkey]", "most-secret")
        page.click("#store-edit button.primary")
        expect(page.locator("#store-edit")).to_be_hidden()
        card.get_by_role("button", name="Edit…").click()
        expect(page.locator("#store-edit [name=secretkey]")).to_have_value("")

    chromium.run(steps)
    first, second = (call for call in visitor.calls if call["command"] == "addImageStore")
    assert first == second
    sent = {key.partition(".")[2]: value for key, value in second.items() if key.startswith("details[0].")}
    assert sent.pop("cacertificate").splitlines() == ca.splitlines()
    assert sent == {
        "endpoint": "https://s3.example.test", "bucket": "images", "accesskey": "AKID",
        "secretkey": "very-secret", "capacitybytes": str(2 * GIB), "publiclinks": "false",
    }  # fmt: skip
    assert (second["provider"], second["name"]) == ("S3", "bucket")
    assert "url" not in second
    [change] = [call for call in visitor.calls if call["command"] == "updateImageStore"]
    assert (change["id"], change["details[0].accesskey"]) == ("b-1", "AKID2")
    assert change["details[0].secretkey"] == "most-secret"
    assert "name" not in change


def test_what_the_daemon_refuses_of_a_bucket_is_shown(shared_host: Host, chromium: Chromium) -> None:
    visitor = Visitor(shared_host, daemon_answers)

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Image stores")
        page.click("#open-store")
        page.select_option("#store-add [name=provider]", "S3")
        for name, value in (
            ("name", "bucket"), ("endpoint", "https://s3.example.test"), ("bucket", "a..b"),
            ("accesskey", "AKID"), ("secretkey", "very-secret"),
        ):  # fmt: skip
            page.fill(f"#store-add [name={name}]", value)
        page.click("#store-add button.primary")
        error = page.locator("#store-add .error")
        expect(error).to_contain_text("name of the bucket is not 2 to 63 letters")
        page.fill("#store-add [name=bucket]", "images")
        page.fill("#store-add [name=cacertificate]", "not PEM")
        page.click("#store-add button.primary")
        expect(error).to_contain_text("cacertificate is not a certificate in PEM")
        assert "very-secret" not in page.locator("#store-add .error").inner_text()

    chromium.run(steps)


def test_a_full_store_shows_its_thresholds_and_what_to_do(host: Host, chromium: Chromium) -> None:
    host.start()
    set_usage(host, "secondary", 50 * GIB)
    visitor = Visitor(host, daemon_answers)

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Image stores")
        card = page.locator("#stores .card")
        bar = card.get_by_role("progressbar", name="Used space of secondary")
        expect(bar).to_have_attribute("aria-valuenow", "50")
        expect(card).to_contain_text("50.0 GiB of 100.0 GiB used (50 %), 50.0 GiB free")
        expect(card.locator(".mark")).to_have_count(2)
        expect(card.locator(".hint")).to_have_count(0)
        set_usage(host, "secondary", 80 * GIB)
        expect(card.locator(".hint")).to_contain_text("From 90 % on it gets no new templates")
        set_usage(host, "secondary", 95 * GIB)
        expect(card.locator(".hint.bad")).to_contain_text("Delete templates, move content, or add a store")

    chromium.run(steps)


def test_a_move_shows_its_progress_and_why_it_failed(shared_host: Host, chromium: Chromium) -> None:
    store = shared_host.call("listImageStores")["imagestore"][0]["id"]
    move: dict[str, Any] = {
        "jobid": "a-job", "cmd": "migrateSecondaryStorageData", "jobinstanceid": store, "jobstatus": 0,
        "created": "2026-01-01T00:00:00+0000", "jobprocstatus": 40, "jobprogresstext": "moved 2 of 5",
    }  # fmt: skip

    def answer(call: dict[str, str]) -> dict[str, Any] | None:
        return {"count": 1, "asyncjobs": [move]} if call["command"] == "listAsyncJobs" else None

    visitor = Visitor(shared_host, answer)

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Image stores")
        card = page.locator("#stores .card")
        moving = card.get_by_role("progressbar", name="Content that leaves secondary")
        expect(moving).to_have_attribute("aria-valuenow", "40")
        expect(card).to_contain_text("moved 2 of 5")
        expect(card.get_by_role("button", name="Cancel move")).to_be_visible()
        move.update(jobstatus=2, jobresult={"errortext": "Could not migrate tiny", "hint": "see listEvents"})
        expect(card.locator(".hint.bad")).to_have_text("Could not migrate tiny: see listEvents")
        expect(card.get_by_role("button", name="Move content…")).to_be_visible()

    chromium.run(steps)


def test_contents_are_browsed(shared_host: Host, chromium: Chromium) -> None:
    directories = {
        "": [{"name": "template", "isdirectory": True, "size": 0, "lastupdated": "2026-01-01T00:00:00+0000"}],
        "template": [
            {"name": "<b>x</b>.qcow2", "isdirectory": False, "size": 5 << 20, "templatename": "tiny",
             "lastupdated": "2026-01-01T00:00:00+0000"},
        ],
    }  # fmt: skip

    def answer(call: dict[str, str]) -> dict[str, Any] | None:
        if call["command"] != "listImageStoreObjects":
            return None
        return {"datastoreobject": directories[call.get("path", "")]}

    visitor = Visitor(shared_host, answer)

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Image stores")
        page.locator("#stores .card").get_by_role("button", name="Contents…").click()
        page.get_by_role("button", name="template/").click()
        expect(page.locator("#contents h2")).to_have_text("secondary: /template")
        expect(page.locator("#contents tbody tr")).to_contain_text("<b>x</b>.qcow2")
        expect(page.locator("#contents tbody tr")).to_contain_text("5.0 MiB")
        page.get_by_role("button", name="Parent directory").click()
        expect(page.locator("#contents h2")).to_have_text("secondary: /")
        expect(page.get_by_role("button", name="Parent directory")).to_be_disabled()

    chromium.run(steps)


TEMPLATE: dict[str, Any] = {
    "id": "0b0f4ffc-5a7a-4a2c-8d9b-b6f2b7a3c111", "name": "tiny", "format": "QCOW2", "isready": True,
    "status": "Download Complete", "size": 1 << 30, "isextractable": False,
    "downloaddetails": [{"datastore": "secondary", "downloadPercent": "100", "downloadState": "DOWNLOADED"}],
}  # fmt: skip


def with_template(template: dict[str, Any], call: dict[str, str]) -> dict[str, Any] | None:
    match call["command"]:
        case "listTemplates":
            return {"template": [template]}
        case "extractTemplate":
            return {"jobid": "a-job"}
        case "queryAsyncJobResult":
            link = {"url": quote(LINK, safe=""), "expires": "2030-01-01T00:00:00+0000"}
            return {"jobstatus": 1, "jobresult": {"template": link}}
    return None


def test_a_link_is_shown_with_its_expiry_and_what_its_certificate_needs(
    host: Host, chromium: Chromium
) -> None:
    """Nobody reaches the address of the link: to a page that is the same as a certificate."""
    advertise(host, LINK.partition("/userdata")[0])
    host.start()
    visitor = Visitor(host, lambda call: with_template(TEMPLATE, call))

    def steps(page: Page) -> None:
        page.route(f"{LINK.partition('/userdata')[0]}/**", lambda route: route.abort())
        visitor.open(page)
        page.locator("#templates .row").get_by_role("button", name="Download…").click()
        dialog = page.locator("#link")
        expect(dialog.locator("[name=url]")).to_have_value(LINK)
        command = f"curl -C - -O --cacert systemvm-root.crt '{LINK}'"
        expect(dialog.locator("[name=curl]")).to_have_value(command)
        expect(dialog.locator("time")).to_have_attribute("datetime", "2030-01-01T00:00:00+0000")
        expect(dialog.get_by_role("link", name="Download")).to_have_attribute("href", LINK)
        expect(dialog.locator(".trust")).to_contain_text("cannot connect to https://203.0.113.101")

    chromium.run(steps)
    [call] = [call for call in visitor.calls if call["command"] == "extractTemplate"]
    assert call["mode"] == "HTTP_DOWNLOAD"


def test_a_failed_and_a_waiting_transfer_say_why_and_what_to_do(
    shared_host: Host, chromium: Chromium
) -> None:
    copy = {"datastore": "third", "downloadPercent": "25", "downloadState": "DOWNLOAD_IN_PROGRESS",
            "receivedbytes": 256 << 20, "totalbytes": 1 << 30, "systemvm": "s-1-VM"}  # fmt: skip
    waiting = {
        **TEMPLATE, "isready": False, "status": "25% Downloaded", "url": "https://images.example.test/tiny.qcow2",
        "hint": "s-1-VM is slow", "downloaddetails": [copy],
    }  # fmt: skip
    failed = {
        **waiting, "status": "image is not QCOW2", "hint": "register it as RAW",
        "downloaddetails": [{**copy, "downloadState": "DOWNLOAD_ERROR"}],
    }  # fmt: skip
    shown = dict(waiting)
    visitor = Visitor(shared_host, lambda call: with_template(shown, call))

    def steps(page: Page) -> None:
        visitor.open(page)
        row = page.locator("#templates .row")
        expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
        expect(row).to_contain_text("s-1-VM is slow")
        expect(row).to_contain_text("256.0 MiB of 1.0 GiB")
        expect(row).to_contain_text("from images.example.test to third by s-1-VM")
        shown.update(failed)
        expect(row.locator(".hint.bad")).to_have_text("image is not QCOW2")
        expect(row).to_contain_text("register it as RAW")
        expect(row.get_by_role("button", name="Retry")).to_be_visible()
        upload = {"downloaddetails": [{**copy, "downloadState": "UPLOAD_ERROR"}], "url": None}
        shown.update(upload)
        expect(row.get_by_role("button", name="Upload file…")).to_be_visible()
        expect(row.get_by_role("button", name="Retry")).to_have_count(0)

    chromium.run(steps)
