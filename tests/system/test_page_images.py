# SPDX-License-Identifier: Apache-2.0
"""A user's browser on the machine of `make run` downloads an image from the SSVM, and uploads one to it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from booted_cloud import BootedCloud
from console_page import CHROMIUM, log_in, new_context, scaled_ms

pytestmark = pytest.mark.cloud


@pytest.fixture
def page(cloud: BootedCloud, tmp_path: Path) -> Iterator[Page]:
    """A browser that has imported the cloud's root, and checks certificates."""
    store = tmp_path / ".pki/nssdb"
    store.mkdir(parents=True)
    root = tmp_path / "root.pem"
    root.write_text(cloud.cli("ca", "show").stdout)
    for arguments in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "root", "-i", str(root)]):
        subprocess.run(["certutil", "-d", f"sql:{store}", *arguments], check=True, timeout=60)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**CHROMIUM, env={**os.environ, "HOME": str(tmp_path)})
        page = new_context(browser).new_page()
        log_in(page, cloud.plan.page_url, cloud.lab.login)
        yield page
        browser.close()


def test_a_browser_downloads_by_the_link_of_the_page(cloud: BootedCloud, page: Page, tmp_path: Path) -> None:
    template = cloud.register("page-tiny", f"{cloud.plan.source_url}/tiny.qcow2")
    assert cloud.wait_settled(template["id"])["isready"]
    row = page.locator("#templates .row", has_text="page-tiny")
    row.get_by_role("button", name="Download…").click()
    link = re.compile(re.escape(f"{cloud.plan.storage_origin}/userdata/"))
    expect(page.locator("#link [name=url]")).to_have_value(link, timeout=scaled_ms(60.0))
    with page.expect_download() as download:
        # a new window shows nothing of a download
        page.eval_on_selector("#link a.primary", "link => { link.target = '_self'; link.click(); }")
    assert Path(download.value.path()).read_bytes() == cloud.tiny_image.read_bytes()
    expect(page.locator("#link .trust")).to_be_empty()
    page.locator("#link").get_by_role("button", name="Close").click()
    cloud.delete_template(template["id"])


def test_a_browser_uploads_an_image(cloud: BootedCloud, page: Page, tmp_path: Path) -> None:
    image = tmp_path / "uploaded.qcow2"
    image.write_bytes(cloud.tiny_image.read_bytes())
    page.click("#open-upload")
    page.set_input_files("#upload [name=file]", image)
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    page.fill("#upload [name=checksum]", f"{{SHA-256}}{digest}")
    page.click("#upload button.primary")
    row = page.locator("#templates .row", has_text="uploaded")
    expect(row.locator(".state.good")).to_have_text("Ready", timeout=scaled_ms(120.0))
    [template] = [each for each in cloud.cli_json("template", "list") if each["name"] == "uploaded"]
    link = cloud.cli("template", "export", "uploaded").stdout.strip()
    fetched = tmp_path / "fetched"
    authority = cloud.plan.layout.pki / "public-ca.crt"
    subprocess.run(["curl", "-fsS", "--cacert", authority, "-o", fetched, link], check=True)
    assert fetched.read_bytes() == image.read_bytes()
    cloud.delete_template(template["id"])
