# SPDX-License-Identifier: Apache-2.0
"""Certificates on the page of a real daemon, in a real browser, by mouse and by keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accessibility import violations_light_and_dark
from console_page import open_section
from integration.cpvm_lab.chromium import Chromium
from integration.daemon_lab import Host, host, shared_host
from integration.page_user import chromium
from integration.page_visitor import Visitor
from public_pki import DOMAIN, INTERMEDIATE, ROOT, WILDCARD, server

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

__all__ = ["chromium", "host", "shared_host"]  # fixtures

DIRECTORY = "https://acme.example.test/dir"


def test_a_certificate_is_uploaded_used_by_a_name_and_given_up_by_keyboard(
    host: Host, chromium: Chromium, tmp_path: Path
) -> None:
    host.start()
    visitor = Visitor(host, lambda call: None)
    leaf = server()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(leaf.pem + INTERMEDIATE.pem + ROOT.pem)
    key.write_text(leaf.key_pem)

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Certificates")
        dialog = page.locator("#certificate-upload")
        page.get_by_role("button", name="Upload certificate…").focus()
        page.keyboard.press("Enter")
        page.get_by_role("textbox", name="Domain").fill(DOMAIN)
        page.get_by_label("Certificate and chain").fill(leaf.pem + INTERMEDIATE.pem + ROOT.pem)
        page.get_by_label("Private key, PKCS#8").fill(server().key_pem)
        page.keyboard.press("Tab")  # to the field for a file
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        expect(dialog.get_by_role("button", name="Upload", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_contain_text("private key does not belong to certificate")
        expect(dialog.get_by_role("alert")).to_contain_text(
            "send the key that the certificate was issued for"
        )
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(page.locator("#certificate-upload [name=privatekey]")).to_have_value("")

        page.get_by_role("button", name="Upload certificate…").click()
        page.get_by_role("textbox", name="Domain").fill(DOMAIN)
        page.set_input_files("[data-fills=certificate]", chain)
        page.set_input_files("[data-fills=privatekey]", key)
        expect(page.locator("#certificate-upload [name=certificate]")).to_have_value(chain.read_text())
        expect(page.locator("#certificate-upload [name=privatekey]")).to_have_value(leaf.key_pem)
        dialog.get_by_role("button", name="Upload", exact=True).click()
        expect(dialog).to_be_hidden()

        consoles = page.locator("#certificates .card", has_text="consoles")
        consoles.get_by_role("button", name="Name and ACME").click()
        settings = page.locator("#fields")
        page.get_by_label("Name for browsers").fill("not a name")
        settings.get_by_role("button", name="Save").click()
        expect(settings.get_by_role("alert")).to_contain_text("domain must be a DNS name")
        page.get_by_label("Name for browsers").fill(WILDCARD)
        page.keyboard.press("Enter")
        expect(settings).to_be_hidden()
        expect(consoles).to_contain_text("uploaded")
        expect(consoles).to_contain_text("CN=test intermediate")
        expect(consoles.locator(".state")).to_have_text("valid")

        consoles.get_by_role("button", name="Use the own CA").click()
        page.click("#confirm button.danger")
        expect(consoles.locator(".state")).to_have_text("no certificate")
        expect(consoles).not_to_contain_text("uploaded")

    chromium.run(steps)


def test_what_is_wrong_is_shown_and_a_name_is_renewed(shared_host: Host, chromium: Chromium) -> None:
    shown: dict[str, Any] = {
        "id": f"zone1/console/{DOMAIN}", "service": "console", "zoneid": "z-1", "zonename": "zone1",
        "name": "203.0.113.9", "wantedname": DOMAIN, "configured": DOMAIN, "url": "https://203.0.113.9",
        "setting": "consoleproxy.url.domain", "systemvms": ["v-2-VM"], "state": "expiring", "source": "own",
        "names": ["203.0.113.9"], "issuer": "CN=systemvm public CA", "expires": "2027-01-01T00:00:00+0000",
        "reason": f"serves 203.0.113.9, because no valid certificate is for {DOMAIN}", "hint": "send one",
        "acmesetting": "consoleproxy.acme.directory.url", "acmedirectory": DIRECTORY, "acmestate": "failed",
        "acmereason": "<b>too many requests</b>", "acmehint": "wait", "acmenext": "2026-12-01T00:00:00+0000",
    }  # fmt: skip
    kept = {key: value for key, value in shown.items() if key not in ("reason", "hint", "acmereason")}
    issued = kept | {"name": DOMAIN, "source": "acme", "state": "valid", "acmestate": "issued"}
    names = [shown]

    def answer(call: dict[str, str]) -> dict[str, Any] | None:
        match call["command"]:
            case "listPublicNames":
                return {"publicname": names}
            case "renewPublicCertificate":
                assert call["id"] == shown["id"]
                names[:] = [issued]
                return {"jobid": "j-1"}
            case "queryAsyncJobResult":
                return {"jobstatus": 1, "jobresult": {"success": True}}
        return None

    visitor = Visitor(shared_host, answer)

    def steps(page: Page) -> None:
        visitor.open(page)
        open_section(page, "Certificates")
        card = page.locator("#certificates .card")
        expect(card).to_contain_text("too many requests")
        assert card.locator("b").count() == 0, "an error of a server is text"
        expect(card.locator(".state")).to_have_text("expires soon")
        for text in ("v-2-VM", "CN=systemvm public CA", "the CA of this installation", DIRECTORY, "failed"):
            expect(card).to_contain_text(text)
        expect(card.locator(".hint.bad")).to_contain_text("wait")
        card.get_by_role("button", name="Renew the certificate of 203.0.113.9, zone1 now").focus()
        page.keyboard.press("Enter")
        expect(card).to_contain_text("ordered and renewed by itself")
        expect(card.locator(".hint")).to_have_count(0)
        assert violations_light_and_dark(page) == []
        page.get_by_role("button", name="Upload certificate…").click()
        assert violations_light_and_dark(page) == []
        page.keyboard.press("Escape")
        card.get_by_role("button", name="Name and ACME server of").click()
        expect(page.get_by_label("Directory of an ACME server")).to_have_value(DIRECTORY)
        assert violations_light_and_dark(page) == []

    chromium.run(steps)
