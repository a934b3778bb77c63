# SPDX-License-Identifier: Apache-2.0
"""All volumes of a stopped VM are moved to another pool; one to another host is refused with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from api_requests import NOWHERE, refusal
from present import present
from shared_pools import create_pool, create_volume
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.primary import pool_usage
from systemvm.management.primary.pool_usage import DiskUsage
from systemvm.management.state import storage_pools, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.jobs import Job
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.volumes import transitions
from systemvm.management.volumes.errors import NoPoolError
from systemvm.service.errors import SystemVmError
from user_vms import deploy_running

COMMAND = "migrateVirtualMachine"


async def stopped_with_data(cloud: SmallCloud) -> tuple[Instance, list[int]]:
    """Return a stopped VM that has a root and a data volume, and the numbers of both."""
    vm = await deploy_running(cloud)
    own = present(cloud.database.run_now(storage_pools.pool_of_host, cloud.host.id))
    data = await create_volume(cloud, own)
    await cloud.machines.stop(vm.id, forced=True)
    job = await cloud.job("attachVolume", id=data.uuid, virtualmachineid=vm.uuid)
    assert job.result_code == 0, job.result
    root = present(cloud.database.run_now(volumes.root_of, vm.id))
    return vm, [root.id, data.id]


def pools_of(cloud: SmallCloud, ids: list[int]) -> list[int | None]:
    return [cloud.database.run_now(volumes.by_id, each).pool_id for each in ids]


async def repeated(cloud: SmallCloud, vm: Instance, disks: list[int], pool: StoragePool) -> Job:
    """Run a job of an earlier daemon, which was to move volumes out of the host's own directory."""
    job = await cloud.jobs.submit(
        COMMAND,
        {"id": vm.id, "volumes": [[each, None] for each in disks], "target": pool.id},
        account_id=cloud.admin.account.id,
        domain_id=cloud.admin.domain.id,
        user_id=cloud.admin.user.id,
        request_id="request-1",
    )
    return await cloud.jobs.wait(job.uuid)


@pytest_twisted.ensureDeferred
async def test_all_volumes_of_a_stopped_vm_are_moved_and_back(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    own = present(cloud.database.run_now(storage_pools.pool_of_host, cloud.host.id))
    vm, disks = await stopped_with_data(cloud)
    job = await cloud.job(COMMAND, virtualmachineid=vm.uuid, storageid=pool.uuid)
    assert (job.result_code, job.result["virtualmachine"]["id"]) == (0, vm.uuid)
    assert pools_of(cloud, disks) == [pool.id, pool.id]
    again = await cloud.job(COMMAND, virtualmachineid=vm.uuid, storageid=pool.uuid)
    assert again.result_code == 0, "what is there already is not moved"
    back = await cloud.job(COMMAND, virtualmachineid=vm.uuid, storageid=own.uuid)
    assert back.result_code == 0
    assert pools_of(cloud, disks) == [None, None]
    await cloud.machines.start(vm.id)


@pytest_twisted.ensureDeferred
async def test_a_failure_in_the_middle_is_repaired_by_the_next_call(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    vm, disks = await stopped_with_data(cloud)
    storage = await cloud.pools.of(pool.id)
    storage.fails_with = OSError(28, "No space left on device")
    failed = await cloud.job(COMMAND, virtualmachineid=vm.uuid, storageid=pool.uuid)
    assert failed.result_code != 0
    assert pools_of(cloud, disks) == [None, None]
    storage.fails_with = None
    assert (await cloud.job(COMMAND, virtualmachineid=vm.uuid, storageid=pool.uuid)).result_code == 0
    assert pools_of(cloud, disks) == [pool.id, pool.id]


@pytest_twisted.ensureDeferred
async def test_a_volume_that_fails_after_another_was_moved_is_moved_by_the_next_call(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await create_pool(cloud)
    vm, disks = await stopped_with_data(cloud)
    storage = await cloud.pools.of(pool.id)
    copy = storage.import_volume
    moved: list[str] = []

    async def copy_one(volume_uuid: str, *more: Any) -> Path:
        if moved:
            raise OSError(28, "No space left on device")
        moved.append(volume_uuid)
        return await copy(volume_uuid, *more)

    with monkeypatch.context() as full:
        full.setattr(storage, "import_volume", copy_one)
        failed = await cloud.job(COMMAND, virtualmachineid=vm.uuid, storageid=pool.uuid)
    assert failed.result_code != 0
    assert pools_of(cloud, disks) == [pool.id, None]
    assert (await cloud.job(COMMAND, virtualmachineid=vm.uuid, storageid=pool.uuid)).result_code == 0
    assert pools_of(cloud, disks) == [pool.id, pool.id]


@pytest_twisted.ensureDeferred
async def test_a_killed_daemon_leaves_one_file_of_each_volume_after_the_job_is_repeated(
    cloud: SmallCloud,
) -> None:
    pool = await create_pool(cloud)
    vm, disks = await stopped_with_data(cloud)
    root = cloud.database.run_now(volumes.by_id, disks[0])
    before = cloud.primary.volume_path(root.uuid)
    path = await (await cloud.pools.of(pool.id)).import_volume(root.uuid, before, "qcow2", 1)
    usages = await cloud.storage_pools.usages()
    cloud.database.run_now(transitions.set_moved, root.id, pool.id, str(path), usages)
    assert (await repeated(cloud, vm, disks, pool)).result_code == 0
    assert pools_of(cloud, disks) == [pool.id, pool.id]
    assert (path.exists(), before.exists()) == (True, False)


@pytest_twisted.ensureDeferred
async def test_a_pool_must_have_room_for_all_volumes_together(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await create_pool(cloud)
    vm, disks = await stopped_with_data(cloud)
    own = present(cloud.database.run_now(storage_pools.pool_of_host, cloud.host.id))
    other = await create_volume(cloud, own, name="other")
    await cloud.job("attachVolume", id=other.uuid, virtualmachineid=vm.uuid)
    monkeypatch.setattr(pool_usage, "disk_usage", lambda _: DiskUsage(100 << 30, 0))
    await cloud.call("updateConfiguration", name="storage.overprovisioning.factor", value="1")

    async def limit(share: str) -> None:
        name = "pool.storage.allocated.capacity.disablethreshold"
        await cloud.call("updateConfiguration", name=name, value=share)

    await limit("0.035")  # 3.5 GiB: each of both data volumes has 2
    with pytest.raises(NoPoolError, match="its volumes would have"):
        await cloud.call(COMMAND, virtualmachineid=vm.uuid, storageid=pool.uuid)

    disks.append(other.id)
    job = await repeated(cloud, vm, disks, pool)  # it was taken before the pool had other volumes
    assert "its volumes would have" in str(job.result)
    assert pools_of(cloud, disks) == [None, None, None]
    await limit("0.9")
    assert (await repeated(cloud, vm, disks, pool)).result_code == 0
    assert pools_of(cloud, disks) == [pool.id] * 3


@pytest_twisted.ensureDeferred
async def test_a_running_vm_and_a_pool_that_takes_nothing_are_refused_before_a_job(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    vm = await deploy_running(cloud)
    error = await refusal(cloud, COMMAND, virtualmachineid=vm.uuid, storageid=pool.uuid)
    assert (error.code, error.hint) == (ErrorCode.PARAMETER, "call stopVirtualMachine first")
    await cloud.machines.stop(vm.id, forced=True)
    await cloud.call("updateStoragePool", id=pool.uuid, enabled=False)
    with pytest.raises(SystemVmError, match="takes no volume: it is Disabled"):
        await cloud.call(COMMAND, virtualmachineid=vm.uuid, storageid=pool.uuid)


@pytest_twisted.ensureDeferred
async def test_a_move_to_another_host_is_refused_with_the_reason(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    vm = await deploy_running(cloud)
    of_vm = {"virtualmachineid": vm.uuid}
    error = await refusal(cloud, COMMAND, **of_vm)
    assert error.message == "Either hostId or storageId must be specified"
    error = await refusal(cloud, COMMAND, **of_vm, hostid=cloud.host.uuid, storageid=pool.uuid)
    assert error.message == "Only one of hostId and storageId can be specified"
    error = await refusal(cloud, COMMAND, **of_vm, hostid=cloud.host.uuid)
    assert error.message.startswith("Cannot migrate VM, VM is already present on this host")
    error = await refusal(cloud, COMMAND, **of_vm, autoselect="true")
    assert error.message == "Unsupported operation, VM uses Local storage, cannot migrate"
    with pytest.raises(LookupError):
        await cloud.call(COMMAND, **of_vm, hostid=NOWHERE)
    error = await refusal(cloud, COMMAND, virtualmachineid=cloud.ssvm.uuid, storageid=pool.uuid)
    assert "is a system VM" in error.message

    await cloud.machines.stop(vm.id, forced=True)
    error = await refusal(cloud, COMMAND, **of_vm, autoselect="true")
    assert error.message == f"VM is not Running, unable to migrate the vm {vm.name}"
    assert (await cloud.job(COMMAND, **of_vm, storageid=pool.uuid)).result_code == 0
    await cloud.machines.start(vm.id)
    error = await refusal(cloud, COMMAND, **of_vm, autoselect="true")
    assert error.message.startswith("Unable to find suitable destination to migrate VM")
