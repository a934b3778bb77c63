# SPDX-License-Identifier: Apache-2.0
"""Addresses that a download must not reach, by URL, redirect or changing name."""

from __future__ import annotations

import shutil

import pytest
import pytest_twisted

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import BAD, daemon, published, world
from integration.ssvm_lab.world import SERVER, VM, World

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon", "world"]  # fixtures


DENIED = [
    "http://127.0.0.1/", "http://localhost/", "http://169.254.0.1/", "http://10.11.0.1/", "http://10.12.0.2/",
    f"http://{VM}/", "http://loop.example.test/", "http://mixed.example.test/", "http://management.example.test/",
    "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:a0b:1]/", "http://0.0.0.0/", "http://[::]/",
    "http://[64:ff9b::7f00:1]/", "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/",
]  # fmt: skip


@pytest.mark.parametrize("by_redirect", [False, True], ids=["at first", "by redirect"])
@pytest.mark.parametrize("url", DENIED)
@pytest_twisted.ensureDeferred
async def test_a_denied_address_receives_no_packet(
    world: World, daemon: Daemon, url: str, by_redirect: bool
) -> None:
    status = await daemon.download(request(world, f"{BAD}/redirect?to={url}" if by_redirect else url))
    assert status.error is not None
    assert status.error.code in ("url_denied", "url_invalid")
    assert world.forbidden_connections() == []
    assert world.leftovers() == []


@pytest_twisted.ensureDeferred
async def test_the_clouds_own_public_addresses_are_denied_whether_a_port_is_open_or_not(
    world: World, daemon: Daemon
) -> None:
    """A hypervisor can share its network with image servers, so the daemon sends its address with the job."""
    closed_port = 8099
    urls = (f"http://{SERVER}/image.raw", f"http://{SERVER}:{closed_port}/image.raw", f"https://{SERVER}/x")
    errors = {
        (status.error.code, status.error.message, status.error.hint)
        for status in [
            await daemon.download(request(world, url, denied_networks=[f"{SERVER}/32"])) for url in urls
        ]
        if status.error is not None
    }
    [(code, message, _)] = errors
    assert code == "url_denied"
    assert "an address of this cloud's own" in message
    assert str(SERVER) not in message


@pytest_twisted.ensureDeferred
async def test_a_name_with_changing_addresses_is_resolved_once_and_pinned(
    world: World, daemon: Daemon
) -> None:
    """DNS rebinding: probe and transfer use the address of one look-up; the next job resolves to loopback."""
    url = "http://a.flip.example.test:8000/good"
    published(world, await daemon.download(request(world, url)))
    assert world.dns_queries.read_text() == "1"
    shutil.rmtree(world.store / "template")
    refused = await daemon.download(request(world, url))
    assert refused.error is not None
    assert refused.error.code == "url_denied"
    # a redirect is resolved and checked again, even to the same name
    again = f"http://b.flip.example.test:8000/redirect?to={url.replace('a.flip', 'b.flip')}"
    hopped = await daemon.download(request(world, again))
    assert hopped.error is not None
    assert hopped.error.code == "url_denied"
    assert (world.forbidden_connections(), world.leftovers()) == ([], [])
