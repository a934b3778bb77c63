# SPDX-License-Identifier: Apache-2.0
"""Lists of volumes and snapshots that SQL selects, compared with CloudStack's rules for each row."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.state import instances, snapshots, volumes, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import InstanceType, SnapshotState, VolumeState
from systemvm.management.state.storage_pools import list_pools
from systemvm.management.state.volumes import DATA, ROOT, Volume

NAMES = ("Ärger", "a % sign", "plain", "PLAIN")
VOLUMES, SNAPSHOTS = 40, 40


def fill(cloud: SmallCloud, chance: random.Random) -> tuple[list[Volume], list[Snapshot], dict[int, str]]:
    """Add volumes and snapshots of all kinds; return those that a list can contain, and the VMs' UUIDs."""
    template, _ = cloud.add_template(name="base")

    def add(connection: Connection) -> tuple[list[Volume], list[Snapshot], dict[int, str]]:
        zone2 = zones.put_zone(connection, "zone2", arch="amd64")
        owners = (cloud.admin, cloud.user)
        vms = [
            instances.create(
                connection,
                InstanceType.USER,
                name=f"vm{number}",
                account_id=owner.account.id,
                zone_id=cloud.zone.id,
            )
            for number, owner in enumerate(owners)
        ]
        system = instances.list_system(connection)[0]
        kept, snapshots_kept = [], []
        for number in range(VOLUMES):
            owner = chance.choice(owners)
            volume = volumes.create(
                connection,
                name=chance.choice(NAMES),
                account_id=owner.account.id,
                vm_id=chance.choice((None, vms[0].id, vms[1].id, system.id)),
                zone_id=chance.choice((cloud.zone.id, zone2.id)),
                type=chance.choice((ROOT, DATA)),
                state=chance.choice(list(VolumeState)),
                host_id=chance.choice((None, cloud.host.id)),
                template_id=chance.choice((None, template.id)),
                size_bytes=number,
            )
            if chance.random() < 0.2:
                volumes.remove(connection, volume.id)
            elif volume.vm_id != system.id:
                kept.append(volume)
        parent = None
        [store] = [each for each in zones.all_stores(connection) if each.zone_id == cloud.zone.id]
        for _ in range(SNAPSHOTS):
            snapshot = snapshots.insert(
                connection,
                name=chance.choice(NAMES),
                account_id=chance.choice(owners).account.id,
                volume_id=chance.choice(kept).id,
                zone_id=chance.choice((cloud.zone.id, zone2.id)),
                parent_id=parent,
                store_id=store.id,
                host_id=cloud.host.id,
                interval_type=chance.choice(("MANUAL", "DAILY")),
                state=chance.choice(list(SnapshotState)),
            )
            parent = chance.choice((None, snapshot.id))
            if chance.random() < 0.2:
                snapshots.remove(connection, snapshot.id)
            elif not snapshot.state.is_hidden:
                snapshots_kept.append(snapshot)
        return kept, snapshots_kept, {vm.id: vm.uuid for vm in vms}

    return cloud.database.run_now(add)


Case = tuple[dict[str, Any], Callable[[Any], bool]]


async def check(
    cloud: SmallCloud, command: str, object_name: str, rows: list[Any], cases: list[Case]
) -> None:
    compared = 0
    for viewer in (cloud.admin, cloud.user):
        for everyones in (True, False):
            for parameters, fits in cases:
                sees_all = viewer.is_admin and (everyones or "id" in parameters)
                expected = [
                    row.uuid
                    for row in rows
                    if (sees_all or row.account_id == viewer.account.id) and fits(row)
                ]
                answer = await cloud.call(command, viewer, listall=str(everyones).lower(), **parameters)
                found = [row["id"] for row in answer.get(object_name, [])]
                assert found == expected, (viewer.account.name, everyones, parameters)
                assert answer.get("count", 0) == len(expected)
                compared += bool(expected)
    assert compared > 2 * len(cases)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("seed", range(2))
async def test_filters_of_volumes(cloud: SmallCloud, seed: int) -> None:
    rows, _, vms = fill(cloud, random.Random(seed))
    [first_vm, second_vm] = vms
    cases: list[Case] = [
        ({}, lambda row: True),
        ({"id": rows[3].uuid}, lambda row: row.id == rows[3].id),
        ({"ids": [row.uuid for row in rows[:7]]}, lambda row: row in rows[:7]),
        ({"name": "plain"}, lambda row: row.name.lower() == "plain"),
        ({"name": "äRGER"}, lambda row: row.name == "Ärger"),
        ({"keyword": "% S"}, lambda row: "%" in row.name),
        ({"type": "root"}, lambda row: row.type == ROOT),
        ({"state": "ready"}, lambda row: row.state is VolumeState.READY),
        ({"zoneid": cloud.zone.uuid}, lambda row: row.zone_id == cloud.zone.id),
        ({"virtualmachineid": vms[first_vm]}, lambda row: row.vm_id == first_vm),
        ({"virtualmachineid": vms[second_vm]}, lambda row: row.vm_id == second_vm),
    ]
    await check(cloud, "listVolumes", "volume", rows, cases)
    assert await cloud.call("listVolumes", listall="true", state="no such state") == {}
    assert await cloud.call("listVolumes", listall="true", zoneid=rows[0].uuid) == {}
    assert await cloud.call("listVolumes", listall="true", storageid=rows[0].uuid) == {}


@pytest_twisted.ensureDeferred
async def test_volumes_of_a_pool_are_listed_for_administrators(cloud: SmallCloud) -> None:
    rows, _, _ = fill(cloud, random.Random(9))
    pool = next(
        pool for pool in cloud.database.run_now(list_pools) if pool.is_local and pool.host_id == cloud.host.id
    )
    answer = await cloud.call("listVolumes", listall="true", storageid=pool.uuid)
    expected = [row.uuid for row in rows if row.host_id == cloud.host.id]
    assert [row["id"] for row in answer["volume"]] == expected
    assert {row["storage"] for row in answer["volume"]} == {pool.name}
    assert await cloud.call("listVolumes", cloud.user, storageid=pool.uuid) == {}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("seed", range(2))
async def test_filters_of_snapshots(cloud: SmallCloud, seed: int) -> None:
    of_volumes, rows, _ = fill(cloud, random.Random(seed))
    volume = next(volume for volume in of_volumes if any(row.volume_id == volume.id for row in rows))
    cases: list[Case] = [
        ({}, lambda row: True),
        ({"id": rows[3].uuid}, lambda row: row.id == rows[3].id),
        ({"ids": [row.uuid for row in rows[:7]]}, lambda row: row in rows[:7]),
        ({"name": "plain"}, lambda row: row.name.lower() == "plain"),
        ({"keyword": "ärg"}, lambda row: row.name == "Ärger"),
        ({"volumeid": volume.uuid}, lambda row: row.volume_id == volume.id),
        ({"zoneid": cloud.zone.uuid}, lambda row: row.zone_id == cloud.zone.id),
        ({"state": "backedup"}, lambda row: row.state is SnapshotState.BACKED_UP),
        ({"snapshottype": "daily"}, lambda row: row.interval_type == "DAILY"),
        ({"intervaltype": "manual"}, lambda row: row.interval_type == "MANUAL"),
    ]
    await check(cloud, "listSnapshots", "snapshot", rows, cases)
    conflicting = {"snapshottype": "DAILY", "intervaltype": "MANUAL"}
    assert await cloud.call("listSnapshots", listall="true", **conflicting) == {}
    uuids = {row.id: row.uuid for row in cloud.database.run_now(snapshots.rows.all)}
    answer = await cloud.call("listSnapshots", listall="true")
    parents = [row.parent_id and uuids[row.parent_id] for row in rows]
    assert [row.get("parentid") for row in answer["snapshot"]] == parents
    assert any(parents)


@pytest_twisted.ensureDeferred
async def test_pages_of_volumes_together_are_the_list(cloud: SmallCloud) -> None:
    rows, _, _ = fill(cloud, random.Random(5))
    found: list[str] = []
    for page in range(1, len(rows) // 6 + 2):
        answer = await cloud.call("listVolumes", listall="true", page=page, pagesize=6)
        assert answer["count"] == len(rows)
        found += [row["id"] for row in answer["volume"]]
    assert found == [row.uuid for row in rows]
    cloud.database.run_now(volumes.remove, rows[0].id)
    assert (await cloud.call("listVolumes", listall="true", page=1, pagesize=6))["count"] == len(rows) - 1
