# SPDX-License-Identifier: Apache-2.0
"""Users' VMs: stop, start, reboot, destruction, adoption, and the reasons of an end."""

from __future__ import annotations

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.hypervisors.base import DomainState, DomainStatus, ExitReason
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import volumes
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.errors import MachineError
from user_vms import deploy_by_api


async def settled(cloud: SmallCloud) -> None:
    """Wait until the database has run the writes of callbacks."""
    await cloud.database.run(lambda connection: None)


@pytest_twisted.ensureDeferred
async def test_failed_stop_leaves_the_vm_running(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud)
    cloud.hypervisor.fails_with = HypervisorError("it cannot be ended")
    job = await cloud.job("stopVirtualMachine", id=vm.uuid)
    assert job.result_code == 534
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("forced", [False, True])
async def test_stopped_vm_starts_with_its_disk(cloud: SmallCloud, forced: bool) -> None:
    vm = await deploy_by_api(cloud)
    job = await cloud.job("stopVirtualMachine", id=vm.uuid, forced=forced)
    assert job.result["virtualmachine"]["state"] == "Stopped"
    assert "reason" not in job.result["virtualmachine"]
    assert cloud.hypervisor.stops == [(vm.instance_name, forced)]
    stopped = cloud.instance(vm.id)
    assert (stopped.vnc_port, stopped.sealed_vnc_password, stopped.wanted) == (None, None, False)
    clones = dict(cloud.primary.clones)
    await cloud.job("startVirtualMachine", id=vm.uuid)
    assert cloud.instance(vm.id).wanted
    assert cloud.primary.clones == clones, "it keeps its disk"


@pytest_twisted.ensureDeferred
async def test_each_operation_can_be_repeated(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud)
    for command, state in [
        ("startVirtualMachine", "Running"),
        ("stopVirtualMachine", "Stopped"),
        ("destroyVirtualMachine", "Destroyed"),
    ]:
        for _ in range(2):
            job = await cloud.job(command, id=vm.uuid)
            assert job.result["virtualmachine"]["state"] == state
    for _ in range(2):
        assert (await cloud.machines.expunge(vm.id)).removed is not None
    assert (await cloud.machines.destroy(vm.id)).removed is not None


@pytest_twisted.ensureDeferred
async def test_expunged_vm_leaves_no_disk_and_is_not_listed(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud)
    volume = cloud.database.run_now(volumes.root_of, vm.id)
    path = cloud.primary.volume_path(present(volume).uuid)
    assert path.exists()
    await cloud.job("destroyVirtualMachine", id=vm.uuid, expunge="true")
    assert not path.exists()
    assert await cloud.call("listVirtualMachines", listall="true") == {}
    assert cloud.database.run_now(volumes.root_of, vm.id) is None


@pytest_twisted.ensureDeferred
async def test_concurrent_operations_run_one_after_another(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud)
    stopping = await cloud.call("stopVirtualMachine", id=vm.uuid)
    starting = await cloud.call("startVirtualMachine", id=vm.uuid)
    results = [await cloud.jobs.wait(job["jobid"]) for job in (stopping, starting)]
    assert [job.result_code for job in results] == [0, 0]
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("command", ["startVirtualMachine", "stopVirtualMachine", "destroyVirtualMachine"])
async def test_vm_of_another_account_cannot_be_operated(cloud: SmallCloud, command: str) -> None:
    vm = await deploy_by_api(cloud)
    with pytest.raises(ApiError) as refused:
        await cloud.call(command, cloud.user, id=vm.uuid)
    assert refused.value.code == 401
    assert await cloud.call("listVirtualMachines", cloud.user, listall="true") == {}


@pytest_twisted.ensureDeferred
async def test_system_vm_cannot_be_operated_as_a_users_vm(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError, match="is a system VM"):
        await cloud.call("stopVirtualMachine", id=cloud.ssvm.uuid)
    with pytest.raises(MachineError, match="is a system VM"):
        await cloud.machines.stop(cloud.ssvm.id)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("reason", list(ExitReason))
async def test_ended_vm_is_stopped_with_a_reason(cloud: SmallCloud, reason: ExitReason) -> None:
    vm = await deploy_by_api(cloud)
    cloud.hypervisor.exit(vm.instance_name, reason)
    await settled(cloud)
    [row] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert row["state"] == "Stopped"
    assert row["reason"]


@pytest_twisted.ensureDeferred
async def test_end_of_a_system_vm_is_ignored(cloud: SmallCloud) -> None:
    cloud.hypervisor.statuses["s-1-VM"] = DomainStatus("s-1-VM", "u", DomainState.RUNNING)
    cloud.hypervisor.exit("s-1-VM", ExitReason.GUEST_SHUTDOWN)
    await settled(cloud)
    assert cloud.instance(cloud.ssvm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_running_vm_is_adopted_with_its_vnc_server(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud)
    status = DomainStatus(
        vm.instance_name, vm.uuid, DomainState.RUNNING, vnc_address="10.11.0.1", vnc_port=5999
    )
    before = cloud.instance(vm.id)
    await cloud.machines.adopt({vm.instance_name: status})
    after = cloud.instance(vm.id)
    assert (after.state, after.vnc_port) == (InstanceState.RUNNING, 5999)
    assert after.sealed_vnc_password == before.sealed_vnc_password
    assert after.started == before.started


@pytest_twisted.ensureDeferred
async def test_vm_that_ended_while_the_daemon_was_down_is_stopped(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud)
    await cloud.machines.adopt({})
    after = cloud.instance(vm.id)
    assert after.state is InstanceState.STOPPED
    assert "no management daemon" in present(after.reason)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("state", [InstanceState.STARTING, InstanceState.STOPPED])
async def test_interrupted_start_is_repeated(cloud: SmallCloud, state: InstanceState) -> None:
    vm = await deploy_by_api(cloud, startvm="false")
    cloud.update_instance(vm, state=state)
    started = await cloud.machines.start(vm.id)
    assert started.state is InstanceState.RUNNING
    cloud.update_instance(vm, state=InstanceState.STARTING)
    again = await cloud.machines.start(vm.id)
    assert again.state is InstanceState.RUNNING
    assert len(cloud.hypervisor.specs) == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("forced", [False, True])
async def test_a_reboot_stops_and_starts(cloud: SmallCloud, forced: bool) -> None:
    vm = await deploy_by_api(cloud)
    before = cloud.hypervisor.specs[vm.instance_name]
    job = await cloud.job("rebootVirtualMachine", id=vm.uuid, forced=forced)
    assert job.result["virtualmachine"]["state"] == "Running"
    assert cloud.hypervisor.stops == [(vm.instance_name, forced)]
    after = cloud.hypervisor.specs[vm.instance_name]
    assert after.disk == before.disk
    assert present(after.vnc).password != present(before.vnc).password


@pytest_twisted.ensureDeferred
async def test_only_a_running_vm_is_rebooted(cloud: SmallCloud) -> None:
    vm = await deploy_by_api(cloud)
    await cloud.job("stopVirtualMachine", id=vm.uuid)
    job = await cloud.job("rebootVirtualMachine", id=vm.uuid)
    assert (job.result_code, "is Stopped" in job.result["errortext"]) == (431, True)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("state", [InstanceState.STOPPING, InstanceState.STOPPED, InstanceState.STARTING])
async def test_interrupted_reboot_is_completed(cloud: SmallCloud, state: InstanceState) -> None:
    vm = await deploy_by_api(cloud)
    await cloud.hypervisor.stop(vm.instance_name)
    cloud.update_instance(vm, state=state, wanted=True)
    await cloud.machines.adopt({})
    assert (await cloud.machines.reboot(vm.id)).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_start_that_was_interrupted_leaves_a_stopped_vm_with_the_reason(cloud: SmallCloud) -> None:
    """Not every start is a job that resumes."""
    vm = await deploy_by_api(cloud, startvm="false")
    cloud.update_instance(vm, state=InstanceState.STARTING, wanted=True)
    await cloud.machines.adopt({})
    after = cloud.instance(vm.id)
    assert (after.state, after.wanted) == (InstanceState.STOPPED, True)
    assert (after.reason or "").startswith("Its start was interrupted")
    assert (await cloud.machines.start(vm.id)).reason is None


@pytest_twisted.ensureDeferred
async def test_a_stop_that_was_interrupted_leaves_a_running_vm_or_a_stopped_one(cloud: SmallCloud) -> None:
    alive, ended = await deploy_by_api(cloud), await deploy_by_api(cloud)
    for vm in (alive, ended):
        cloud.update_instance(vm, state=InstanceState.STOPPING, wanted=False)
    await cloud.machines.adopt({alive.instance_name: cloud.hypervisor.statuses[alive.instance_name]})
    assert (cloud.instance(alive.id).state, cloud.instance(alive.id).wanted) == (InstanceState.RUNNING, True)
    assert cloud.instance(alive.id).started == alive.started, "it was not started again"
    assert cloud.instance(ended.id).state is InstanceState.STOPPED


@pytest_twisted.ensureDeferred
async def test_a_machine_that_ends_while_it_is_adopted_is_stopped(cloud: SmallCloud) -> None:
    """A guest that was told to power off, and does, after the new daemon has looked for machines."""
    vm = await deploy_by_api(cloud)
    cloud.update_instance(vm, state=InstanceState.STOPPING)
    found = cloud.hypervisor.statuses.copy()
    cloud.hypervisor.exit(vm.instance_name, ExitReason.GUEST_SHUTDOWN)
    await settled(cloud)
    await cloud.machines.adopt(found)
    assert cloud.instance(vm.id).state is InstanceState.STOPPED
