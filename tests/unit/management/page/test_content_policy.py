# SPDX-License-Identifier: Apache-2.0
"""The page connects to its own origin and to the SSVMs that uploads go to, and to nothing else."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_twisted
from twisted.web.server import Site

from in_memory_http import HttpAnswer, request
from small_cloud import SmallCloud
from systemvm.management.page.resource import ListOrigins, PageResource
from systemvm.management.page.storage_origins import StorageOrigins
from systemvm.management.state.status import InstanceType
from systemvm.web.public_endpoint import PublicEndpoint


async def visit(list_origins: ListOrigins, target: str = "/", method: str = "GET") -> HttpAnswer:
    return await request(Site(PageResource(list_origins=list_origins)), method, target)


def connects_to(answer: HttpAnswer) -> list[str]:
    directives = dict(
        each.strip().split(" ", 1) for each in str(answer.headers["Content-Security-Policy"]).split(";")
    )
    assert directives["default-src"] == "'none'" and directives["script-src"] == "'self'"
    return directives["connect-src"].split()


def origins_of(cloud: SmallCloud, advertised: str) -> ListOrigins:
    endpoint = PublicEndpoint.parse(advertised)
    return StorageOrigins(cloud.database, lambda zone_name, address: endpoint).list


@pytest.mark.parametrize(
    "advertised", ["https://127.0.0.1:8444", "https://*.storage.example.test", "http://images.example.test"]
)
@pytest_twisted.ensureDeferred
async def test_an_advertised_name_is_permitted_as_it_is(cloud: SmallCloud, advertised: str) -> None:
    assert connects_to(await visit(origins_of(cloud, f"{advertised}/images"))) == ["'self'", advertised]


@pytest_twisted.ensureDeferred
async def test_of_bare_addresses_only_those_of_ssvms_are_permitted(cloud: SmallCloud) -> None:
    cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    first = f"https://203.0.113.{100 + cloud.ssvm.id}"
    assert connects_to(await visit(origins_of(cloud, "https://*"))) == ["'self'", first]
    second = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    permitted = connects_to(await visit(origins_of(cloud, "https://*")))
    assert permitted == ["'self'", first, f"https://203.0.113.{100 + second.id}"]


@pytest_twisted.ensureDeferred
async def test_a_bare_address_of_ipv6_is_left_out(cloud: SmallCloud) -> None:
    """Browsers report it as an error of the policy."""
    endpoint = PublicEndpoint.parse("https://*").at(ip_address("2001:db8::5"))
    origins = StorageOrigins(
        cloud.database,
        lambda zone, address: PublicEndpoint.parse("https://*") if address is None else endpoint,
    )
    assert connects_to(await visit(origins.list)) == ["'self'"]


@pytest_twisted.ensureDeferred
async def test_the_page_is_served_without_origins_when_they_cannot_be_read() -> None:
    async def fail() -> list[str]:
        raise OSError("database is locked")

    answer = await visit(fail)
    assert (answer.status, connects_to(answer)) == (200, ["'self'"])
    assert b"<title>systemvm</title>" in answer.body


@pytest_twisted.ensureDeferred
async def test_other_files_connect_to_nothing_else(cloud: SmallCloud) -> None:
    answer = await visit(origins_of(cloud, "https://*"), "/app.js")
    assert connects_to(answer) == ["'self'"]
    head = await visit(origins_of(cloud, "https://*"), "/", "HEAD")
    assert head.body == b"" and int(head.headers["Content-Length"]) > 1000


@pytest_twisted.ensureDeferred
async def test_stock_xterm_is_served_if_the_host_has_it(tmp_path: Path) -> None:
    for name in ("lib/xterm.mjs", "css/xterm.css", "lib/other.mjs"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    served = Site(PageResource(xterm=tmp_path))
    module, styles = await request(served, "GET", "/xterm.mjs"), await request(served, "GET", "/xterm.css")
    assert (module.body, styles.body) == (b"lib/xterm.mjs", b"css/xterm.css")
    assert (await request(served, "GET", "/xterm_styles.js")).status == 200
    assert module.headers["Content-Type"].startswith("text/javascript") and connects_to(module) == ["'self'"]
    assert (await request(served, "GET", "/other.mjs")).status == 404
    for lacking in (None, tmp_path / "none"):
        assert (await request(Site(PageResource(xterm=lacking)), "GET", "/xterm.mjs")).status == 404
