# SPDX-License-Identifier: Apache-2.0
"""Restorations that a killed daemon has begun, beside what came after them."""

from __future__ import annotations

import uuid

import pytest
import pytest_twisted

from present import present
from shared_pools import create_pool
from small_cloud import SmallCloud
from systemvm.management.primary import pool_usage
from systemvm.management.primary.pool_usage import DiskUsage
from systemvm.management.state import instances, templates, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.jobs import Job
from systemvm.management.state.status import InstanceState, Provisioning
from systemvm.management.state.volumes import Volume
from systemvm.management.virtual_machines.restoration import Restoration, _claim
from user_vms import deploy_running, deploy_stopped, root_of

GIB = 1 << 30


async def run(cloud: SmallCloud, vm: Instance, image_id: int | None, root_uuid: str) -> Job:
    """Run the job of a restoration; once more with the same disk, it is the job that a kill interrupted."""
    owner = cloud.admin
    job = await cloud.jobs.submit(
        "restoreVirtualMachine", {"id": vm.id, "image": image_id, "root": root_uuid, "start": True},
        account_id=owner.account.id, domain_id=owner.domain.id, user_id=owner.user.id,
    )  # fmt: skip
    return await cloud.jobs.wait(job.uuid)


@pytest_twisted.ensureDeferred
async def test_one_that_was_done_is_not_done_again_after_a_later_one(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    other, _ = cloud.add_template(name="other")
    earlier, later = str(uuid.uuid4()), str(uuid.uuid4())
    await run(cloud, vm, vm.template_id, earlier)
    await run(cloud, vm, other.id, later)
    assert (await run(cloud, vm, vm.template_id, earlier)).result_code == 0
    assert root_of(cloud, vm).uuid == later
    assert cloud.instance(vm.id).template_id == other.id


@pytest_twisted.ensureDeferred
async def test_a_disk_that_is_in_use_is_not_deleted(cloud: SmallCloud) -> None:
    """The sweep lists disks, waits for the lock of each, and deletes what is still to be deleted."""
    vm = await deploy_running(cloud)
    root = root_of(cloud, vm)
    await cloud.volumes.finish_deletion(root)
    assert root_of(cloud, vm) == root
    assert root.uuid in {path.stem for path in cloud.primary.directory.iterdir()}


@pytest_twisted.ensureDeferred
async def test_a_vm_that_was_being_stopped_runs_again_when_it_cannot_be_restored(cloud: SmallCloud) -> None:
    """The machine ended while no daemon ran, and its template was deleted meanwhile."""
    vm = await deploy_running(cloud)
    other, _ = cloud.add_template(name="other")
    root_uuid, before = str(uuid.uuid4()), root_of(cloud, vm)
    cloud.database.run_now(_claim, Restoration(vm.id, other.id, root_uuid, was_running=True))
    cloud.database.run_now(instances.update, vm.id, state=InstanceState.STOPPING)
    cloud.hypervisor.statuses.pop(vm.instance_name)
    await cloud.machines.adopt({})
    cloud.database.run_now(templates.request_deletion, other.id)
    assert (await run(cloud, vm, other.id, root_uuid)).result_code != 0
    assert cloud.instance(vm.id).state is InstanceState.RUNNING
    assert root_of(cloud, vm) == before


def half_restored(cloud: SmallCloud, vm: Instance) -> Volume:
    """Do what a daemon has done that was killed when the new disk was complete."""
    wanted = Restoration(vm.id, present(vm.template_id), str(uuid.uuid4()), was_running=True)
    cloud.database.run_now(_claim, wanted)
    return present(cloud.database.run_now(volumes.find, wanted.root_uuid))


@pytest_twisted.ensureDeferred
async def test_the_disk_of_a_killed_daemon_does_not_count_twice(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fat disks and the template use 25 GiB each of a pool of 100 GiB, of which 85 can be used."""
    pool, vm = await create_pool(cloud), await deploy_stopped(cloud)
    fat = {"pool_id": pool.id, "provisioning": Provisioning.FAT, "size_bytes": 25 * GIB}
    cloud.database.run_now(volumes.update, root_of(cloud, vm).id, **fat)
    await cloud.machines.start(vm.id)
    new = half_restored(cloud, vm)
    made = (await cloud.pools.of(pool.id)).volume_path(new.uuid)
    made.touch()
    monkeypatch.setattr(
        pool_usage,
        "disk_usage",
        lambda directory: DiskUsage(100 * GIB, 25 * GIB * len(list(directory.glob("*-*.qcow2")))),
    )
    job = await run(cloud, vm, vm.template_id, new.uuid)
    assert job.result_code == 0, job.result
    assert (root_of(cloud, vm).uuid, made.exists()) == (new.uuid, True)


@pytest_twisted.ensureDeferred
async def test_a_disk_that_was_moved_and_resized_since_the_kill_is_made_there_and_so_large(
    cloud: SmallCloud,
) -> None:
    pool, vm = await create_pool(cloud), await deploy_running(cloud)
    new = half_restored(cloud, vm)
    await cloud.machines.stop(vm.id, forced=True)
    root = root_of(cloud, vm).uuid
    for command, more in (
        ("migrateVolume", {"volumeid": root, "storageid": pool.uuid}),
        ("resizeVolume", {"id": root, "size": 2}),
    ):
        assert (await cloud.job(command, **more)).result_code == 0
    assert (await run(cloud, vm, vm.template_id, new.uuid)).result_code == 0
    assert (root_of(cloud, vm).pool_id, root_of(cloud, vm).size_bytes) == (pool.id, 2 * GIB)
    assert cloud.instance(vm.id).state is InstanceState.STOPPED, "its owner stopped it"
