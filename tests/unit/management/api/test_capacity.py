# SPDX-License-Identifier: Apache-2.0
"""Capacity of each zone: what is measured and allocated, by CloudStack's types."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from api_requests import NOWHERE, refusal
from small_cloud import SmallCloud
from systemvm.host.zone import TrafficType
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import address_ranges, addresses, volumes, zones


async def capacity(cloud: SmallCloud, kind: int) -> dict[str, Any]:
    [found] = (await cloud.call("listCapacity", type=kind))["capacity"]
    return dict(found)


@pytest_twisted.ensureDeferred
async def test_addresses_are_counted_as_they_are_allocated(cloud: SmallCloud) -> None:
    before = await capacity(cloud, 4)
    assert (before["name"], before["capacitytotal"]) == ("VIRTUAL_NETWORK_PUBLIC_IP", 100)
    ranges = cloud.database.run_now(address_ranges.list_ranges, cloud.zone.id, TrafficType.PUBLIC)
    cloud.database.run_now(addresses.allocate_from, ranges, vm_id=cloud.cpvm.id)
    after = await capacity(cloud, 4)
    assert after["capacityused"] == before["capacityused"] + 1
    assert after["percentused"] == f"{after['capacityused']:.2f}"
    private = await capacity(cloud, 5)
    [pod] = (await cloud.call("listPods"))["pod"]
    assert (private["podid"], private["zoneid"]) == (pod["id"], cloud.zone.uuid)


@pytest_twisted.ensureDeferred
async def test_stores_count_once_they_are_measured(cloud: SmallCloud) -> None:
    assert await cloud.call("listCapacity", type=6) == {}
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 1000, 250)
    store = await capacity(cloud, 6)
    assert (store["capacityused"], store["capacitytotal"], store["percentused"]) == (250, 1000, "25.00")


@pytest_twisted.ensureDeferred
async def test_local_storage_agrees_with_its_pool(cloud: SmallCloud) -> None:
    [pool] = (await cloud.call("listStoragePools"))["storagepool"]
    local = await capacity(cloud, 9)
    assert (local["clusterid"], local["capacitytotal"]) == (pool["clusterid"], pool["disksizetotal"])
    assert pool["disksizeallocated"] == 0


@pytest_twisted.ensureDeferred
async def test_a_root_disk_without_a_size_of_its_own_counts_as_its_template(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    for size_bytes in (None, 5 << 20):
        cloud.database.run_now(
            volumes.create,
            name="ROOT",
            account_id=cloud.user.account.id,
            domain_id=cloud.user.domain.id,
            vm_id=None,
            zone_id=cloud.zone.id,
            host_id=cloud.host.id,
            template_id=template.id,
            size_bytes=size_bytes,
        )
    [pool] = (await cloud.call("listStoragePools"))["storagepool"]
    assert ref.virtual_size_bytes
    assert pool["disksizeallocated"] == ref.virtual_size_bytes + (5 << 20)


@pytest_twisted.ensureDeferred
async def test_capacity_is_sorted_and_selected(cloud: SmallCloud) -> None:
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 1000, 999)
    rows = (await cloud.call("listCapacity", sortby="usage"))["capacity"]
    used = [float(row["percentused"]) for row in rows]
    assert used == sorted(used, reverse=True)
    assert {row["type"] for row in rows} == {4, 5, 6, 9}
    assert await cloud.call("listCapacity", zoneid=NOWHERE) == {}
    assert (await refusal(cloud, "listCapacity", cloud.user)).code is ErrorCode.UNSUPPORTED
