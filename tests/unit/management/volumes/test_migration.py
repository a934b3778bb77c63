# SPDX-License-Identifier: Apache-2.0
"""Volumes are moved between pools, and what cannot be moved is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from present import present
from shared_pools import create_pool, create_volume
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.primary import pool_usage
from systemvm.management.primary.pool_usage import DiskUsage
from systemvm.management.state import snapshots, storage_pools, volumes, zones
from systemvm.management.state.status import Provisioning, SnapshotState
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes import transitions
from systemvm.service.errors import FailureCode, SystemVmError
from unfinished_job import resume, start_unfinished
from user_vms import deploy_running, deploy_stopped


def own_pool(cloud: SmallCloud) -> StoragePool:
    return present(cloud.database.run_now(storage_pools.pool_of_host, cloud.host.id))


def row(cloud: SmallCloud, volume: Volume) -> Volume:
    return cloud.database.run_now(volumes.by_id, volume.id)


def file_in(pool: StoragePool, volume: Volume) -> Path:
    return Path(pool.path) / f"{volume.uuid}.qcow2"


async def migrate(cloud: SmallCloud, volume: Volume, pool: StoragePool) -> None:
    job = await cloud.job("migrateVolume", volumeid=volume.uuid, storageid=pool.uuid)
    assert job.result_code == 0, job.result
    assert job.result["volume"]["id"] == volume.uuid


@pytest_twisted.ensureDeferred
async def test_a_detached_volume_is_moved_between_pools_and_back(cloud: SmallCloud) -> None:
    own, first, second = own_pool(cloud), await create_pool(cloud, "one"), await create_pool(cloud, "two")
    volume = await create_volume(cloud, own)
    content = cloud.primary.volume_path(volume.uuid)
    content.write_bytes(b"content")
    await migrate(cloud, volume, first)
    assert row(cloud, volume).pool_id == first.id
    assert not content.exists()
    await migrate(cloud, volume, second)
    assert (file_in(first, volume).exists(), file_in(second, volume).read_bytes()) == (False, b"content")
    await migrate(cloud, volume, own)
    assert (row(cloud, volume).pool_id, content.read_bytes()) == (None, b"content")


@pytest_twisted.ensureDeferred
async def test_the_root_disk_of_a_stopped_vm_is_moved_and_its_vm_starts_there(cloud: SmallCloud) -> None:
    pool, vm = await create_pool(cloud), await deploy_running(cloud)
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    job = await cloud.job("migrateVolume", volumeid=root.uuid, storageid=pool.uuid)
    assert job.result_code == ErrorCode.PARAMETER
    assert "stop it first" in job.result["hint"]
    await cloud.machines.stop(vm.id, forced=True)
    await migrate(cloud, root, pool)
    await cloud.machines.start(vm.id)
    assert present(cloud.hypervisor.specs[vm.instance_name].disk).path == file_in(pool, root)


@pytest.mark.parametrize("of_vm", [False, True])
@pytest_twisted.ensureDeferred
async def test_what_a_killed_daemon_has_copied_does_not_count_twice(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, of_vm: bool
) -> None:
    """A fat disk uses its 60 GiB of a pool of 100 GiB, of which 85 can be used, before it is filled."""
    pool, vm = await create_pool(cloud), await deploy_running(cloud)
    await cloud.machines.stop(vm.id, forced=True)
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    fat = {"provisioning": Provisioning.FAT, "size_bytes": 60 << 30}
    cloud.database.run_now(volumes.update, root.id, **fat)
    incomplete = Path(pool.path) / f".{root.uuid}.qcow2.new"
    incomplete.touch()
    monkeypatch.setattr(
        pool_usage,
        "disk_usage",
        lambda directory: DiskUsage(100 << 30, (60 << 30) * len(list(directory.glob(".*.new")))),
    )
    of_volume = {"id": root.id, "source": None, "target": pool.id}
    job = await cloud.jobs.submit(
        "migrateVirtualMachine" if of_vm else "migrateVolume",
        {"id": vm.id, "volumes": [[root.id, None]], "target": pool.id} if of_vm else of_volume,
        account_id=cloud.admin.account.id, domain_id=cloud.admin.domain.id, user_id=cloud.admin.user.id,
    )  # fmt: skip
    ended = await cloud.jobs.wait(job.uuid)
    assert ended.result_code == 0, ended.result
    assert row(cloud, root).pool_id == pool.id


@pytest_twisted.ensureDeferred
async def test_a_copy_that_fails_leaves_the_volume_where_it_was(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    volume = await create_volume(cloud, own_pool(cloud))
    storage = await cloud.pools.of(pool.id)
    storage.fails_with = OSError(28, "No space left on device")
    job = await cloud.job("migrateVolume", volumeid=volume.uuid, storageid=pool.uuid)
    assert job.result_code != 0
    assert row(cloud, volume).pool_id is None
    assert cloud.primary.volume_path(volume.uuid).exists()


@pytest_twisted.ensureDeferred
async def test_a_killed_daemon_leaves_one_file_after_the_job_is_repeated(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    volume = await create_volume(cloud, own_pool(cloud))
    storage = await cloud.pools.of(pool.id)
    path = await storage.import_volume(volume.uuid, cloud.primary.volume_path(volume.uuid), "qcow2", 1)
    usages = await cloud.storage_pools.usages()
    cloud.database.run_now(transitions.set_moved, volume.id, pool.id, str(path), usages)
    job = await cloud.jobs.submit(
        "migrateVolume",
        {"id": volume.id, "source": None, "target": pool.id},
        account_id=cloud.admin.account.id,
        domain_id=cloud.admin.domain.id,
        user_id=cloud.admin.user.id,
        request_id="request-1",
    )
    assert (await cloud.jobs.wait(job.uuid)).result_code == 0
    assert not cloud.primary.volume_path(volume.uuid).exists()
    assert path.exists()


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_moved_is_refused_before_a_job_is_started(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    vm = await deploy_stopped(cloud)
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    with pytest.raises(SystemVmError) as unmade:
        await cloud.call("migrateVolume", volumeid=root.uuid, storageid=pool.uuid)
    assert unmade.value.code is FailureCode.WRONG_STATE
    assert unmade.value.hint == "start its VM once"
    volume = await create_volume(cloud, own_pool(cloud))
    await cloud.call("updateStoragePool", id=pool.uuid, enabled=False)
    with pytest.raises(SystemVmError, match="takes no volume: it is Disabled"):
        await cloud.call("migrateVolume", volumeid=volume.uuid, storageid=pool.uuid)


@pytest_twisted.ensureDeferred
async def test_the_local_storage_of_another_host_cannot_be_reached(cloud: SmallCloud) -> None:
    shared = await create_pool(cloud)
    volume = await create_volume(cloud, shared)
    own = own_pool(cloud)
    other = cloud.database.run_now(
        zones.host_rows.insert,
        name="other",
        arch="amd64",
        address="10.11.0.2",
        hypervisor="KVM",
        zone_id=cloud.zone.id,
    )
    cloud.database.run_now(storage_pools.update, own.id, host_id=other.id)
    with pytest.raises(SystemVmError, match="is the local storage of another host") as refused:
        await cloud.call("migrateVolume", volumeid=volume.uuid, storageid=own.uuid)
    assert refused.value.code is FailureCode.NO_CAPACITY


@pytest_twisted.ensureDeferred
async def test_a_volume_is_not_moved_while_a_snapshot_of_it_is_taken(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    volume = await create_volume(cloud, own_pool(cloud))
    cloud.database.run_now(
        snapshots.insert,
        name="running",
        volume_id=volume.id,
        account_id=volume.account_id,
        domain_id=volume.domain_id,
        zone_id=volume.zone_id,
        store_id=cloud.store.id,
        host_id=cloud.host.id,
        interval_type="MANUAL",
        state=SnapshotState.BACKING_UP,
    )
    with pytest.raises(SystemVmError, match="snapshot running of volume data is being taken"):
        await cloud.call("migrateVolume", volumeid=volume.uuid, storageid=pool.uuid)


@pytest_twisted.ensureDeferred
async def test_a_move_that_is_resumed_leaves_a_volume_that_was_moved_elsewhere_since(
    cloud: SmallCloud,
) -> None:
    first, second = await create_pool(cloud, "one"), await create_pool(cloud, "two")
    volume = await create_volume(cloud, own_pool(cloud))
    job = start_unfinished(cloud, "migrateVolume", id=volume.id, source=None, target=first.id)
    await migrate(cloud, volume, second)
    ended = await resume(cloud, job)
    assert "is in another storage pool than before" in present(ended.result)["errortext"]
    assert row(cloud, volume).pool_id == second.id
    assert (file_in(first, volume).exists(), file_in(second, volume).exists()) == (False, True)
