# SPDX-License-Identifier: Apache-2.0
"""Screens of system VMs: an administrator opens one, encrypted from QEMU to the browser."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from booted_cloud import BootedCloud
from console_page import CHROMIUM, new_context, scaled_ms, screen
from systemvm.lab.namespaces import inside
from systemvm.service.slowness import scaled_s

pytestmark = pytest.mark.cloud

KINDS = ["secondarystoragevm", "consoleproxy"]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**CHROMIUM)
        # the lab's public CA is not in the browser's store; test_public_endpoints.py tests certificates
        yield new_context(chromium, ignore_https_errors=True).new_page()
        chromium.close()


def security_types(cloud: BootedCloud, name: str) -> list[int]:
    """Return the security types that QEMU offers for a machine, as seen on its host."""
    record = json.loads((cloud.plan.root / f"run/systemvm/qemu/{name}.json").read_text())

    def ask() -> list[int]:
        with socket.create_connection((record["vnc_address"], record["vnc_port"]), scaled_s(20)) as peer:
            stream = peer.makefile("rwb", buffering=0)
            assert stream.read(12) == b"RFB 003.008\n"
            stream.write(b"RFB 003.008\n")
            [count] = stream.read(1) or b"\0"
            return list(stream.read(count) or b"")

    return inside(cloud.plan.host_namespace, ask)


@pytest.mark.parametrize("kind", KINDS)
def test_an_administrator_opens_the_screen_of_a_system_vm(cloud: BootedCloud, page: Page, kind: str) -> None:
    vm = cloud.wait_up(kind)
    cloud.wait_up("consoleproxy")
    assert security_types(cloud, vm["name"]) == [19], "only VeNCrypt, although it has a password, too"
    answer = cloud.api.createConsoleEndpoint(virtualmachineid=vm["id"])["consoleendpoint"]
    assert answer["success"], answer
    page.goto(answer["url"])
    page.wait_for_selector("body[data-state=connected]", timeout=scaled_ms(60.0))
    page.wait_for_selector("#screen canvas", timeout=scaled_ms(60.0))
    assert screen(page).shape[0] > 100
