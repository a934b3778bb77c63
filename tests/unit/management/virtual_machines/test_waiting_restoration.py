# SPDX-License-Identifier: Apache-2.0
"""Restorations that wait for an image store or a pool, and what happens to their VMs meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from attrs import define

from hanging_operation import HangingOperation
from present import present
from settling import settled
from shared_pools import create_pool
from small_cloud import SmallCloud
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.state.templates import Template
from user_vms import deploy_running, deploy_stopped, root_of

COPY, CLONE = "ensure_template", "create_clone"


@define
class Waiting:
    """A restoration from another template, in which an operation of primary storage does not answer yet."""

    cloud: SmallCloud
    vm: Instance
    other: Template
    operation: HangingOperation
    _jobid: str = ""

    @classmethod
    async def of(cls, cloud: SmallCloud, vm: Instance, patch: pytest.MonkeyPatch, operation: str) -> Waiting:
        other = cloud.add_template(name="other")[0]
        waiting = cls(cloud, vm, other, HangingOperation(cloud, patch, operation))
        started = await cloud.call("restoreVirtualMachine", virtualmachineid=vm.uuid, templateid=other.uuid)
        waiting._jobid = started["jobid"]
        await waiting.operation.begun
        return waiting

    async def does(self, command: str, **more: Any) -> None:
        job = await self.cloud.job(command, id=self.vm.uuid, **more)
        assert job.result_code == 0, job.result

    async def result(self) -> dict[str, Any]:
        return present((await self.cloud.jobs.wait(self._jobid)).result)

    def disks(self) -> list[str]:
        """Return the volumes that have a file."""
        known = self.cloud.database.run_now(volumes.rows.all)
        return [each.uuid for each in known if self.cloud.primary.volume_path(each.uuid).exists()]


@pytest_twisted.ensureDeferred
async def test_a_vm_is_stopped_and_destroyed_while_its_template_is_on_its_way(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await deploy_running(cloud)
    before = root_of(cloud, vm)
    waiting = await Waiting.of(cloud, vm, monkeypatch, COPY)
    await waiting.does("stopVirtualMachine", forced="true")
    assert cloud.instance(vm.id).state is InstanceState.STOPPED
    await waiting.does("destroyVirtualMachine")
    result = await waiting.result()
    assert f"{vm.name} was destroyed meanwhile" in result["errortext"]
    waiting.operation.answer()
    await settled(cloud.database)
    assert waiting.disks() == [before.uuid]
    assert (cloud.instance(vm.id).state, root_of(cloud, vm)) == (InstanceState.DESTROYED, before)
    await cloud.call("recoverVirtualMachine", id=vm.uuid)
    again = await cloud.job("restoreVirtualMachine", virtualmachineid=vm.uuid, templateid=waiting.other.uuid)
    assert again.result_code == 0


@pytest_twisted.ensureDeferred
async def test_a_vm_is_expunged_while_its_new_disk_is_made(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await deploy_running(cloud)
    waiting = await Waiting.of(cloud, vm, monkeypatch, CLONE)
    await waiting.does("destroyVirtualMachine", expunge="true")
    assert cloud.instance(vm.id).removed is not None
    waiting.operation.answer()
    result = await waiting.result()
    assert f"virtual machine {vm.name} was destroyed" in result["errortext"]
    assert waiting.disks() == []


@pytest.mark.parametrize("operation", [COPY, CLONE])
@pytest_twisted.ensureDeferred
async def test_a_vm_that_is_stopped_meanwhile_is_restored_and_stays_stopped(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    vm = await deploy_running(cloud)
    waiting = await Waiting.of(cloud, vm, monkeypatch, operation)
    await waiting.does("stopVirtualMachine", forced="true")
    waiting.operation.answer()
    result = await waiting.result()
    assert result["virtualmachine"]["state"] == "Stopped"
    assert root_of(cloud, vm).template_id == waiting.other.id
    assert waiting.disks() == [root_of(cloud, vm).uuid]


@pytest.mark.parametrize("operation", [COPY, CLONE])
@pytest_twisted.ensureDeferred
async def test_a_vm_that_is_started_meanwhile_runs_on_with_its_disk(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    vm = await deploy_running(cloud)
    await cloud.machines.stop(vm.id, forced=True)
    before = root_of(cloud, vm)
    waiting = await Waiting.of(cloud, vm, monkeypatch, operation)
    await waiting.does("startVirtualMachine")
    started = cloud.instance(vm.id).started
    waiting.operation.answer()
    result = await waiting.result()
    assert "it was started meanwhile" in result["errortext"]
    assert (root_of(cloud, vm), waiting.disks()) == (before, [before.uuid])
    assert (cloud.instance(vm.id).state, cloud.instance(vm.id).started) == (InstanceState.RUNNING, started)


@pytest_twisted.ensureDeferred
async def test_the_new_disk_is_made_where_the_disk_was_moved_meanwhile(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, vm = await create_pool(cloud), await deploy_running(cloud)
    await cloud.machines.stop(vm.id, forced=True)
    waiting = await Waiting.of(cloud, vm, monkeypatch, COPY)
    moved = await cloud.job("migrateVolume", volumeid=root_of(cloud, vm).uuid, storageid=pool.uuid)
    assert moved.result_code == 0, moved.result
    waiting.operation.answer()
    assert "virtualmachine" in await waiting.result()
    root = root_of(cloud, vm)
    assert (root.pool_id, root.template_id) == (pool.id, waiting.other.id)
    assert (await cloud.pools.of(pool.id)).volume_path(root.uuid).exists()
    assert waiting.disks() == []


@pytest_twisted.ensureDeferred
async def test_restorations_from_one_template_wait_for_one_copy(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await deploy_stopped(cloud), await deploy_stopped(cloud)
    waiting = await Waiting.of(cloud, first, monkeypatch, COPY)
    started = await cloud.call(
        "restoreVirtualMachine", virtualmachineid=second.uuid, templateid=waiting.other.uuid
    )
    await settled(cloud.database)
    waiting.operation.answer()
    assert "virtualmachine" in await waiting.result()
    assert (await cloud.jobs.wait(started["jobid"])).result_code == 0
    assert len(cloud.primary.copied) == 1


@pytest_twisted.ensureDeferred
async def test_a_copy_that_fails_after_its_vm_was_destroyed_ends_nothing_else(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await deploy_running(cloud)
    waiting = await Waiting.of(cloud, vm, monkeypatch, COPY)
    await waiting.does("destroyVirtualMachine")
    assert "errortext" in await waiting.result()
    waiting.operation.fail(PrimaryStorageError("store does not answer"))
    await settled(cloud.database)
    assert waiting.disks() == [root_of(cloud, vm).uuid]
