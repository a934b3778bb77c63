# SPDX-License-Identifier: Apache-2.0
"""What is true of the model and of both storages whenever no job runs."""

from __future__ import annotations

from pathlib import Path

from systemvm.management.state import (
    accounts,
    machine_passwords,
    resource_counts,
    schema,
    snapshots,
    storage_pools,
    templates,
    volumes,
)
from systemvm.management.state.instances import rows as machine_rows
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import (
    InstanceState,
    InstanceType,
    SnapshotState,
    SpoolState,
    VolumeState,
)
from unit.management.zone_sequences.disks import flat, read
from unit.management.zone_sequences.world import World


def check(world: World) -> None:
    """Raises: AssertionError that says what is not so."""
    assert world.machines.faulty == []
    _check_volumes(world)
    _check_copies(world)
    _check_snapshots(world)
    _check_images(world)
    _check_machines(world)
    _check_pools(world)
    _check_accounts(world)


def _directories(world: World) -> dict[int | None, Path]:
    pools = world.database.run_now(storage_pools.list_created)
    return {None: world.directory} | {pool.id: Path(pool.path) for pool in pools}


def _check_volumes(world: World) -> None:
    unusable = _unusable(world)
    rows, expected = [], set()
    for row in world.database.run_now(volumes.rows.all):
        path = _directories(world).get(row.pool_id, world.directory) / f"{row.uuid}.volume"
        if row.state is VolumeState.DESTROYED and row.pool_id in unusable:
            if path.exists():  # it is deleted when the maintenance ends
                expected.add(path)
            continue
        if row.removed is not None:
            continue
        rows.append(row)
        assert row.state in (VolumeState.READY, VolumeState.ALLOCATED), f"{row} is left half made or deleted"
        if row.state is VolumeState.ALLOCATED:
            assert row.type == volumes.ROOT, f"{row} is never made"
            if path.exists():  # a start was killed: the next one replaces it, and an expunge deletes it
                expected.add(path)
            continue
        expected.add(path)
        assert row.path == str(path)
        image = read(path)
        assert row.size_bytes in (None, image["size"]), f"{row} has {image}"
        backing = image.get("backing")
        assert backing is None or Path(backing).exists(), f"{row.name} has lost its base {backing}"
    there = {path for place in _places(world) for path in place.glob("*.volume")}
    assert there == expected, f"files without a volume: {there - expected}"
    assert len({row.uuid for row in rows}) == len(rows)


def _unusable(world: World) -> dict[int, Path]:
    """Return the pools in maintenance: what is to be deleted there stays until it ends."""
    pools = world.database.run_now(storage_pools.list_created)
    usable = (storage_pools.UP, storage_pools.DISABLED)
    return {pool.id: Path(pool.path) for pool in pools if pool.state not in usable}


def _places(world: World) -> list[Path]:
    return [world.directory, *world.directory.glob("pool-*")]


def _check_copies(world: World) -> None:
    """A template has a copy where a row says so, as long as it is not deleted or a clone needs it."""
    rows = world.present(templates.spool_refs)
    for place in set(_places(world)) - set(_unusable(world).values()):
        assert not list(place.glob("*.snapshot")), "a snapshot is left on primary storage"
    expected = {Path(row.path or "") for row in rows if row.state is SpoolState.READY}
    there = {path for place in _directories(world).values() for path in place.glob("*.template")}
    assert there <= {_copy_of(world, row.template_id, row.pool_id) for row in rows}, "a copy has no row"
    assert expected <= there, f"lost copies: {expected - there}"
    keys = [(row.template_id, row.host_id, row.pool_id) for row in rows]
    assert len(set(keys)) == len(keys), "a template has two copies in a pool"


def _copy_of(world: World, template_id: int, pool_id: int | None) -> Path:
    template = world.database.run_now(templates.by_id, template_id)
    return _directories(world)[pool_id] / f"{template.uuid}.template"


def _check_snapshots(world: World) -> None:
    rows = world.present(snapshots.rows)
    by_id = {row.id: row for row in rows}
    folder = world.store / "snapshots"
    expected = set()
    for row in rows:
        assert row.state.has_ended, f"{row} is never taken"
        assert row.state is not SnapshotState.DESTROYING, f"{row} is never deleted"
        if row.state is SnapshotState.ERROR:
            assert row.error_text, "a failure has its reason"
            continue
        chain = _chain(row, by_id)
        paths = [folder / str(each.account_id) / str(each.volume_id) / each.uuid for each in chain]
        expected.add(paths[-1])
        assert flat(paths) == world.machines.taken.get(row.uuid, flat(paths)), f"{row.name} has other content"
        if row.state is SnapshotState.HIDDEN:
            assert any(each.parent_id == row.id for each in rows), f"nothing needs {row}"
    there = {path for path in folder.glob("*/*/*") if not path.name.startswith(".")}
    assert there == expected, f"files without a snapshot: {there - expected}, missing: {expected - there}"
    assert not list(folder.glob("*/*/.*")), "a piece of a snapshot is left"


def _chain(row: Snapshot, by_id: dict[int, Snapshot]) -> list[Snapshot]:
    chain = [row]
    while (parent_id := chain[0].parent_id) is not None:
        assert parent_id in by_id, f"{chain[0]} has lost its base"
        chain.insert(0, by_id[parent_id])
    return chain


def _check_images(world: World) -> None:
    refs = world.present(templates.store_refs)
    expected = {world.store / (ref.install_path or "") for ref in refs if ref.is_ready}
    there = {path for path in (world.store / "template/tmpl").glob("*/*/*") if path.is_file()}
    assert there == expected, f"images without a row: {there - expected}, missing: {expected - there}"
    taken = world.machines.taken
    for number, snapshot in world.images.items():
        for ref in refs:
            if ref.template_id == number and ref.is_ready and snapshot in taken:
                assert read(world.store / (ref.install_path or ""))["blocks"] == taken[snapshot]


def _check_machines(world: World) -> None:
    rows = [row for row in world.database.run_now(machine_rows.all) if row.type is InstanceType.USER]
    running = set(world.machines.running())
    steady = (InstanceState.RUNNING, InstanceState.STOPPED, *InstanceState.gone())
    for row in rows:
        assert row.state in steady, f"nobody starts or stops {row}"
        is_running = row.instance_name in running
        assert is_running == (row.state is InstanceState.RUNNING and row.removed is None), row
        data = world.database.run_now(volumes.data_of, row.id)
        assert len({each.device_id for each in data}) == len(data), "two disks have one device number"
        if is_running:
            password = world.database.run_now(machine_passwords.of_vm, row.id)
            assert password is None or password.sealed is None, f"{row.name} has read its password"
            attached = {disk.uuid for disk in world.machines.disks(row.instance_name).attached.values()}
            assert attached == {each.uuid for each in data}, f"{row.name} has other disks than its rows"
            medium = world.machines.cd_drive(row.instance_name).medium
            assert medium == _iso_copy_of(world, row.iso_id), f"{row.name} has another ISO than its row"
        assert row.removed is None or not data, "a VM that is gone has disks"
    nics = world.database.run_now(lambda connection: connection.execute(schema.nics.select()).all())
    assert len({nic.mac for nic in nics}) == len(nics), "a MAC address is given twice"
    addresses = [(nic.bridge, nic.address) for nic in nics if nic.address]
    assert len(set(addresses)) == len(addresses), "an address is given twice"


def _iso_copy_of(world: World, iso_id: int | None) -> Path | None:
    """Return the copy of an attached ISO, which is there as long as it is attached."""
    if iso_id is None:
        return None
    assert world.database.run_now(templates.by_id, iso_id).removed is None, "an attached ISO is deleted"
    copy = _copy_of(world, iso_id, None)
    assert copy.exists(), "an attached ISO has no copy"
    return copy


def _check_pools(world: World) -> None:
    pools = {pool.id: pool for pool in world.database.run_now(storage_pools.list_created)}
    for pool in pools.values():
        assert pool.state != storage_pools.PREPARING, f"nobody prepares {pool} any more"
    used = {volume.pool_id for volume in world.present(volumes.rows) if _runs(world, volume.vm_id)}
    unused = {number for number, pool in pools.items() if pool.state == storage_pools.MAINTENANCE}
    assert not used & unused, "a pool in maintenance is used"
    mounts = world.cloud.mounter.mounts
    there = {path.name for path in mounts.iterdir()} if mounts.exists() else set()
    assert there <= {pool.uuid for pool in pools.values()}, "something is mounted for no pool"


def _runs(world: World, vm_id: int | None) -> bool:
    if vm_id is None:
        return False
    return world.database.run_now(machine_rows.by_id, vm_id).instance_name in world.machines.running()


def _check_accounts(world: World) -> None:
    known = world.database.run_now(accounts.account_rows.all)
    counts = world.database.run_now(resource_counts.of_accounts, [account.id for account in known])
    for account in known:
        count, files = counts[account.id], (world.store / "snapshots" / str(account.id)).glob("*/*")
        owned = [row for row in world.present(volumes.rows) if row.account_id == account.id]
        assert count[ResourceType.volume] == len(owned)
        assert count[ResourceType.snapshot] <= sum(path.is_file() for path in files if path.name[0] != ".")
        machines = [row for row in world.present(machine_rows) if row.account_id == account.id]
        if account.removed is not None:
            kept = [row for row in world.present(snapshots.rows) if row.account_id == account.id]
            assert not (owned or machines or kept), f"{account} has something"
        if not account.may_run_machines:
            assert not any(_runs(world, row.id) for row in machines), f"a machine of {account} runs"
