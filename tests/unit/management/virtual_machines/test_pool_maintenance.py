# SPDX-License-Identifier: Apache-2.0
"""A storage pool in maintenance: its VMs are stopped, nothing uses it, and they are started afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from held_copy import HeldCopy
from present import present
from settling import settled
from shared_pools import create_pool, create_volume
from small_cloud import SmallCloud
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.primary.storage import PrimaryStorage
from systemvm.management.state import storage_pools, templates, volumes
from systemvm.management.state.status import InstanceState, SpoolState
from systemvm.management.state.storage_pools import StoragePool
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.storage import ImageFormat
from unfinished_job import begins, resume, start_unfinished
from user_vms import deploy_running, deployment_parameters


async def maintain(cloud: SmallCloud, command: str, pool: StoragePool) -> str:
    """Return the state of a pool after a command of its maintenance."""
    job = await cloud.job(command, id=pool.uuid)
    assert job.result_code == 0, job.result
    return str(job.result["storagepool"]["state"])


@pytest_twisted.ensureDeferred
async def test_the_vms_of_a_pool_are_stopped_and_started_again(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    vm, other = await deploy_running(cloud), await deploy_running(cloud)
    volume = await create_volume(cloud, pool)
    await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    assert await maintain(cloud, "enableStorageMaintenance", pool) == "Maintenance"
    assert cloud.instance(vm.id).state is InstanceState.STOPPED
    assert cloud.instance(other.id).state is InstanceState.RUNNING
    for use in (
        cloud.machines.start(vm.id),
        cloud.volumes.resize(volume.id, 3 << 30, cloud.storage_pools.usage_of),
    ):
        with pytest.raises(PrimaryStorageError, match="storage pool shared is in the state Maintenance"):
            await use
    assert await maintain(cloud, "enableStorageMaintenance", pool) == "Maintenance"
    assert await maintain(cloud, "cancelStorageMaintenance", pool) == "Up"
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_vm_that_its_owner_has_stopped_stays_stopped(cloud: SmallCloud) -> None:
    pool, vm = await create_pool(cloud), await deploy_running(cloud)
    volume = await create_volume(cloud, pool)
    await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    await cloud.machines.stop(vm.id, forced=True)
    await maintain(cloud, "enableStorageMaintenance", pool)
    await maintain(cloud, "cancelStorageMaintenance", pool)
    assert cloud.instance(vm.id).state is InstanceState.STOPPED


@pytest_twisted.ensureDeferred
async def test_a_vm_that_does_not_stop_is_an_error_that_can_be_repeated(cloud: SmallCloud) -> None:
    pool, vm = await create_pool(cloud), await deploy_running(cloud)
    volume = await create_volume(cloud, pool)
    await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    stop = cloud.machines.stop

    async def fails(vm_id: int, *, forced: bool = False, wanted: bool = False) -> None:
        raise HypervisorError("QEMU does not answer")

    cloud.machines.stop = fails  # type: ignore[method-assign, assignment]
    job = await cloud.job("enableStorageMaintenance", id=pool.uuid)
    assert job.result["errortext"] == "QEMU does not answer"
    assert cloud.database.run_now(storage_pools.by_id, pool.id).state == "ErrorInMaintenance"
    cloud.machines.stop = stop  # type: ignore[method-assign]
    assert await maintain(cloud, "enableStorageMaintenance", pool) == "Maintenance"


@pytest_twisted.ensureDeferred
async def test_the_directory_of_a_host_has_no_maintenance(cloud: SmallCloud) -> None:
    own = present(cloud.database.run_now(storage_pools.pool_of_host, cloud.host.id))
    job = await cloud.job("enableStorageMaintenance", id=own.uuid)
    assert "the disks of system VMs" in job.result["errortext"]
    assert cloud.database.run_now(storage_pools.by_id, own.id).state == "Up"


@pytest_twisted.ensureDeferred
async def test_a_pool_in_maintenance_takes_no_volume_and_is_not_enabled(cloud: SmallCloud) -> None:
    pool = await create_pool(cloud)
    await maintain(cloud, "enableStorageMaintenance", pool)
    with pytest.raises(SystemVmError, match="takes no volume: it is Maintenance"):
        await cloud.call("createVolume", name="data", size=1, storageid=pool.uuid)
    with pytest.raises(SystemVmError) as refused:
        await cloud.call("updateStoragePool", id=pool.uuid, enabled=True)
    assert refused.value.code is FailureCode.WRONG_STATE
    assert cloud.database.run_now(volumes.of_pool, pool.id) == []


@pytest_twisted.ensureDeferred
async def test_a_pool_that_is_deleted_when_its_maintenance_ends_is_reported_as_such(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await create_pool(cloud)
    measure = cloud.storage_pools.usages

    async def delete_and_measure() -> Usages:
        monkeypatch.undo()
        await cloud.call("deleteStoragePool", id=pool.uuid)
        return await measure()

    monkeypatch.setattr(cloud.storage_pools, "usages", delete_and_measure)
    job = await cloud.job("cancelStorageMaintenance", id=pool.uuid)
    assert (job.result_code, job.result["errortext"]) == (431, "storage pool shared was deleted meanwhile")


@pytest_twisted.ensureDeferred
async def test_an_end_that_is_resumed_does_not_end_a_later_maintenance(cloud: SmallCloud) -> None:
    pool, vm = await create_pool(cloud), await deploy_running(cloud)
    volume = await create_volume(cloud, pool)
    await cloud.job("attachVolume", id=volume.uuid, virtualmachineid=vm.uuid)
    await maintain(cloud, "enableStorageMaintenance", pool)
    job = start_unfinished(cloud, "cancelStorageMaintenance", id=pool.id)
    assert (await cloud.services.disks.maintenance.cancel(pool.id, begins(job))).state == storage_pools.UP
    await maintain(cloud, "enableStorageMaintenance", pool)
    assert (await resume(cloud, job)).result_code == 0
    assert cloud.database.run_now(storage_pools.by_id, pool.id).state == storage_pools.MAINTENANCE
    assert cloud.instance(vm.id).state is InstanceState.STOPPED


def open_real(directory: Path) -> PrimaryStorage:
    storage = PrimaryStorage(directory)
    storage.open()
    return storage


@pytest_twisted.ensureDeferred
async def test_a_copy_of_a_template_ends_when_the_maintenance_of_its_pool_begins(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud.pools, "_open_storage", open_real)
    held = HeldCopy(monkeypatch)
    pool = await create_pool(cloud)
    template, ref = cloud.add_template(format=ImageFormat.RAW)
    source = Path(present(cloud.store.host_path)) / present(ref.install_path)
    source.parent.mkdir(parents=True)
    source.write_bytes(b"data" * (1 << 20))
    offering = await cloud.call(
        "createServiceOffering", name="shared", cpunumber=1, memory=300, storagetype="shared"
    )
    given = await deployment_parameters(cloud, template, serviceofferingid=offering["serviceoffering"]["id"])
    deployed = await cloud.call("deployVirtualMachine", **given)
    await held.begun()  # for the VM, which is Starting from before that
    assert await maintain(cloud, "enableStorageMaintenance", pool) == "Maintenance"
    held.go_on()
    job = await cloud.jobs.wait(deployed["jobid"])
    assert "was stopped meanwhile" in present(job.result)["errortext"]
    await settled(cloud.database)
    assert list((Path(pool.path) / "templates").iterdir()) == []
    copy = cloud.database.run_now(templates.spool_ref, template.id, cloud.host.id, pool.id)
    assert copy.state is SpoolState.ERROR
    assert "shared is in the state PrepareForMaintenance" in present(copy.error_text)
