# SPDX-License-Identifier: Apache-2.0
"""Servers of image stores that are given by name: looked up once, and kept as an address."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from threading import Event
from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.image_stores import server_name
from systemvm.management.image_stores.definition_error import StoreDefinitionError
from systemvm.management.image_stores.server_name import Address, choose, is_host_name, resolve
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import StoreStats


@pytest.fixture(autouse=True)
def _mounts(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.STORAGE_SETUP] = lambda store: StoreStats(1000, 10)
    cloud.ssvm_peer.answers[storage.STORAGE_RELEASE] = lambda store: Acknowledgement()


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("nfs.example.test", True), ("nfs", True), ("3com.example.test", True), ("10.12.0.3", False),
        ("10.12.0", False), ("0x7f000001", True), ("-a", False), ("a..b", False), ("a_b", False), ("", False),
        ("fd00::3", False), ("a" * 64, False), (".".join(["a" * 50] * 6), False), ("1", False),
    ],
)  # fmt: skip
def test_a_host_name_is_not_an_address(text: str, is_name: bool) -> None:
    assert is_host_name(text) is is_name


def test_one_address_is_enough() -> None:
    assert str(choose([ip_address("fd00::3"), ip_address("10.12.0.3")])) == "10.12.0.3"


@pytest_twisted.ensureDeferred
async def test_a_name_server_that_is_silent_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = Event()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        may_answer.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(server_name, "scaled_s", lambda timeout_s: 0.0)
    try:
        with pytest.raises(OSError, match="no name server answers"):
            await resolve("nfs.example.test")
    finally:
        may_answer.set()


def named(cloud: SmallCloud, *addresses: str, error: OSError | None = None) -> list[str]:
    """Have a resolver with these addresses; return what it is asked."""
    asked: list[str] = []

    async def resolve(host: str) -> list[Address]:
        asked.append(host)
        if error is not None:
            raise error
        return [ip_address(address) for address in addresses]

    setattr(cloud.image_stores, "_resolve", resolve)  # noqa: B010
    return asked


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("addresses", "url"),
    [
        (["10.12.0.3"], "nfs://10.12.0.3/x"),
        (["fd00::3", "10.12.0.3", "10.12.0.3"], "nfs://10.12.0.3/x"),
        (["fd00::3"], "nfs://[fd00::3]/x"),
    ],
)
async def test_the_address_of_a_server_is_looked_up_once_and_kept(
    cloud: SmallCloud, addresses: list[str], url: str
) -> None:
    asked = named(cloud, *addresses)
    answer = await cloud.call(
        "addImageStore", provider="NFS", zoneid=cloud.zone.uuid, url="nfs://store.example.test/x"
    )
    assert asked == ["store.example.test"]
    assert answer["imagestore"]["url"] == url
    assert answer["imagestore"]["name"] == "nfs://store.example.test/x"
    [store] = cloud.ssvm_peer.params_of(storage.STORAGE_SETUP)
    assert (store.server, store.path) == (addresses[0] if len(addresses) == 1 else "10.12.0.3", "/x")
    [event] = (await cloud.call("listEvents", type="IMAGE.STORE.ADD"))["event"]
    assert f"store.example.test is {store.server}" in event["description"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        (["10.12.0.3", "10.12.0.4"], "several addresses: 10.12.0.3, 10.12.0.4"),
        (["127.0.0.1"], "127.0.0.1 is not an address of another machine"),
        (["169.254.0.1"], "is not an address of another machine"),
        ([], "it has no address"),
    ],
)
async def test_a_name_without_one_address_is_refused(
    cloud: SmallCloud, addresses: list[str], message: str
) -> None:
    named(cloud, *addresses)
    with pytest.raises(StoreDefinitionError, match=message):
        await cloud.call(
            "addImageStore", provider="NFS", zoneid=cloud.zone.uuid, url="nfs://store.example.test/x"
        )


@pytest_twisted.ensureDeferred
async def test_a_name_that_cannot_be_resolved_is_refused(cloud: SmallCloud) -> None:
    named(cloud, error=socket.gaierror(-2, "Name or service not known"))
    with pytest.raises(StoreDefinitionError, match=r"cannot be used: Name or service not known"):
        await cloud.call(
            "addImageStore", provider="NFS", zoneid=cloud.zone.uuid, url="nfs://store.example.test/x"
        )


@pytest_twisted.ensureDeferred
async def test_a_name_of_a_store_that_is_there_is_that_store(cloud: SmallCloud) -> None:
    named(cloud, "10.12.0.2")
    with pytest.raises(StoreDefinitionError, match="already an image store with this URL"):
        await cloud.call(
            "addImageStore",
            provider="NFS",
            zoneid=cloud.zone.uuid,
            url="nfs://store.example.test/export/secondary",
        )
