# SPDX-License-Identifier: Apache-2.0
"""All volumes of a stopped VM are moved to another pool; one to another host is refused with its reason."""

from __future__ import annotations

import pytest
import pytest_twisted

from api_requests import NOWHERE, refusal
from present import present
from shared_pools import create_pool, create_volume
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import storage_pools, volumes
from systemvm.management.state.instances import Instance
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
