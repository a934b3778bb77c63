# SPDX-License-Identifier: Apache-2.0
"""Starts that wait for an image store, and what happens to their VMs meanwhile."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from hanging_operation import HangingOperation
from present import present
from settling import settled
from small_cloud import SmallCloud
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import instances, templates, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, VolumeState
from systemvm.wire.storage import ImageFormat
from user_vms import deploy_running, deploy_stopped, deployment_parameters, root_of

COPY = "ensure_template"


class WaitingDeployment:
    """A VM that is being deployed, and whose template does not arrive."""

    def __init__(self, cloud: SmallCloud, patch: pytest.MonkeyPatch) -> None:
        self.cloud = cloud
        self.copy = HangingOperation(cloud, patch, COPY)
        self._jobid = ""

    @classmethod
    async def of(cls, cloud: SmallCloud, patch: pytest.MonkeyPatch) -> WaitingDeployment:
        waiting = cls(cloud, patch)
        started = await cloud.call("deployVirtualMachine", **await deployment_parameters(cloud))
        waiting._jobid = started["jobid"]
        await waiting.copy.begun
        assert waiting.vm.state is InstanceState.STARTING
        return waiting

    @property
    def vm(self) -> Instance:
        [vm] = self.cloud.database.run_now(instances.list_user)
        return vm

    async def does(self, command: str, **more: Any) -> None:
        job = await self.cloud.job(command, id=self.vm.uuid, **more)
        assert job.result_code == 0, job.result

    async def result(self) -> dict[str, Any]:
        return present((await self.cloud.jobs.wait(self._jobid)).result)

    def has_disk(self) -> bool:
        [root] = self.cloud.database.run_now(volumes.rows.all)
        return self.cloud.primary.volume_path(root.uuid).exists()


@pytest_twisted.ensureDeferred
async def test_a_vm_is_destroyed_while_its_template_is_on_its_way(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await WaitingDeployment.of(cloud, monkeypatch)
    vm = waiting.vm
    await waiting.does("destroyVirtualMachine")
    assert f"{vm.name} was destroyed meanwhile" in (await waiting.result())["errortext"]
    waiting.copy.answer()
    await settled(cloud.database)
    assert (waiting.vm.state, waiting.has_disk()) == (InstanceState.DESTROYED, False)
    await cloud.call("recoverVirtualMachine", id=vm.uuid)
    await waiting.does("startVirtualMachine")
    assert (waiting.vm.state, waiting.has_disk()) == (InstanceState.RUNNING, True)


@pytest_twisted.ensureDeferred
async def test_a_vm_is_expunged_while_its_template_is_on_its_way(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await WaitingDeployment.of(cloud, monkeypatch)
    vm = waiting.vm
    await waiting.does("destroyVirtualMachine", expunge="true")
    assert f"{vm.name} was destroyed meanwhile" in (await waiting.result())["errortext"]
    waiting.copy.fail(PrimaryStorageError("store does not answer"))
    await settled(cloud.database)
    assert cloud.instance(vm.id).state is InstanceState.EXPUNGING
    assert not waiting.has_disk()


@pytest_twisted.ensureDeferred
async def test_a_vm_is_stopped_while_its_template_is_on_its_way_and_started_again(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await WaitingDeployment.of(cloud, monkeypatch)
    await waiting.does("stopVirtualMachine")
    assert waiting.vm.state is InstanceState.STOPPED
    assert f"{waiting.vm.name} was stopped meanwhile" in (await waiting.result())["errortext"]
    again = await cloud.call("startVirtualMachine", id=waiting.vm.uuid)
    await settled(cloud.database)
    assert waiting.vm.state is InstanceState.STARTING
    waiting.copy.answer()
    assert (await cloud.jobs.wait(again["jobid"])).result_code == 0
    assert (waiting.vm.state, waiting.has_disk()) == (InstanceState.RUNNING, True)
    assert len(cloud.primary.copied) == 1, "the copy that was on its way is used"


@pytest_twisted.ensureDeferred
async def test_a_disabled_account_has_no_vm_that_starts_later(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = WaitingDeployment(cloud, monkeypatch)
    vm = await deploy_stopped(cloud, cloud.user)
    started = await cloud.call("startVirtualMachine", id=vm.uuid)
    await waiting.copy.begun
    disabled = await cloud.job("disableAccount", id=cloud.user.account.uuid, lock="false")
    assert disabled.result_code == 0, disabled.result
    assert (await cloud.jobs.wait(started["jobid"])).result_code != 0
    waiting.copy.answer()
    await settled(cloud.database)
    assert (waiting.vm.state, cloud.hypervisor.statuses) == (InstanceState.STOPPED, {})


@pytest_twisted.ensureDeferred
async def test_a_copy_that_fails_is_the_reason_of_a_vm_that_is_stopped(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await WaitingDeployment.of(cloud, monkeypatch)
    waiting.copy.fail(PrimaryStorageError("store does not answer"))
    assert (await waiting.result())["errortext"].startswith("store does not answer")
    assert waiting.vm.state is InstanceState.STOPPED
    assert waiting.vm.reason == "It could not be started: store does not answer"
    await waiting.does("startVirtualMachine")


@pytest_twisted.ensureDeferred
async def test_vms_of_one_template_wait_for_one_copy(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = HangingOperation(cloud, monkeypatch, COPY)
    template, _ = cloud.add_template()
    vms = [await deploy_stopped(cloud, template=template) for _ in range(3)]
    started = [await cloud.call("startVirtualMachine", id=vm.uuid) for vm in vms]
    await settled(cloud.database)
    copy.answer()
    assert [(await cloud.jobs.wait(one["jobid"])).result_code for one in started] == [0, 0, 0]
    assert len(cloud.primary.copied) == 1


@pytest_twisted.ensureDeferred
async def test_two_starts_of_a_vm_that_waits_boot_it_once(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await WaitingDeployment.of(cloud, monkeypatch)
    again = await cloud.call("startVirtualMachine", id=waiting.vm.uuid)
    await settled(cloud.database)
    waiting.copy.answer()
    assert "virtualmachine" in await waiting.result()
    assert (await cloud.jobs.wait(again["jobid"])).result_code == 0
    assert waiting.vm.state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_vm_that_waits_for_its_iso_is_stopped(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await deploy_running(cloud)
    await cloud.machines.stop(vm.id, forced=True)
    iso, _ = cloud.add_template(format=ImageFormat.ISO, name="drivers")
    attached = await cloud.job("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)
    assert attached.result_code == 0, attached.result
    copy = HangingOperation(cloud, monkeypatch, COPY)
    started = await cloud.call("startVirtualMachine", id=vm.uuid)
    await copy.begun
    stopped = await cloud.job("stopVirtualMachine", id=vm.uuid)
    assert stopped.result_code == 0, stopped.result
    assert "stopped meanwhile" in present((await cloud.jobs.wait(started["jobid"])).result)["errortext"]
    copy.answer()
    again = await cloud.job("startVirtualMachine", id=vm.uuid)
    assert again.result_code == 0, again.result


@pytest_twisted.ensureDeferred
async def test_a_copy_that_fails_after_its_start_was_stopped_does_not_end_the_next_start(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await deploy_running(cloud)
    await cloud.machines.stop(vm.id, forced=True)
    copies, jobs = [], []
    for name in ("drivers", "tools"):
        iso, _ = cloud.add_template(format=ImageFormat.ISO, name=name)
        attached = await cloud.job("attachIso", id=iso.uuid, virtualmachineid=vm.uuid, forced="true")
        assert attached.result_code == 0, attached.result
        copies.append(HangingOperation(cloud, monkeypatch, COPY))
        jobs.append((await cloud.call("startVirtualMachine", id=vm.uuid))["jobid"])
        await copies[-1].begun
        if name == "drivers":
            await cloud.machines.stop(vm.id)
    copies[0].fail(PrimaryStorageError("store does not answer"))
    await settled(cloud.database)
    assert cloud.instance(vm.id).state is InstanceState.STARTING
    copies[1].answer()
    assert [(await cloud.jobs.wait(job)).result_code == 0 for job in jobs] == [False, True]


@pytest_twisted.ensureDeferred
async def test_a_vm_that_waits_for_an_image_is_not_rebooted(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await WaitingDeployment.of(cloud, monkeypatch)
    job = await cloud.job("rebootVirtualMachine", id=waiting.vm.uuid)
    assert (job.result_code, "is Starting" in present(job.result)["errortext"]) == (431, True)
    waiting.copy.answer()
    assert "virtualmachine" in await waiting.result()


@pytest_twisted.ensureDeferred
async def test_a_copy_is_found_after_its_directory_was_moved(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    await deploy_running(cloud, template=template)
    spool = cloud.database.run_now(templates.spool_ref, template.id, cloud.host.id)
    cloud.database.run_now(templates.update_spool_ref, spool.id, path="/moved/from/here.qcow2")
    vm = await deploy_running(cloud, template=template)
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_vm_with_a_disk_needs_no_store(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    vm = await deploy_running(cloud, template=template)
    assert root_of(cloud, vm).state is VolumeState.READY
    await cloud.machines.stop(vm.id, forced=True)
    cloud.primary.fails_with = PrimaryStorageError("store does not answer")
    assert (await cloud.machines.start(vm.id)).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_pool_that_cannot_be_read_is_the_reason_of_a_vm_that_is_stopped(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, _ = cloud.add_template()
    await deploy_running(cloud, template=template)
    vm = await deploy_stopped(cloud, template=template)

    def fail(path: Path) -> bool:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "exists", fail)
    with pytest.raises(OSError, match="Stale"):
        await cloud.machines.start(vm.id)
    monkeypatch.undo()
    assert cloud.instance(vm.id).state is InstanceState.STOPPED
    assert (cloud.instance(vm.id).reason or "").startswith("It could not be started")
