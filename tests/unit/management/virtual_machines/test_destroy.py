# SPDX-License-Identifier: Apache-2.0
"""Destroyed machines can be recovered for expunge.delay, with permission."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from systemvm.management.api.command import CommandTable
from systemvm.management.api.commands.virtual_machines import VirtualMachineCommands
from systemvm.management.api.errors import ApiError
from systemvm.management.config import ExpungeConfig
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.state import instances, volumes
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.errors import MachineStateError
from user_vms import deploy_running


def use_rules(cloud: SmallCloud, rules: ExpungeConfig) -> None:
    """Replace the commands about machines by those of another configuration."""
    others = VirtualMachineCommands(
        cloud.database,
        cloud.machines,
        JobRunner(cloud.database, cloud.clock),
        lambda zone: "cloudbr3",
        cloud.storage_pools,
        cloud.seal,
        host_id=cloud.host.id,
        expunge=rules,
    ).commands()
    names = {command.name for command in others}
    cloud.table = CommandTable([*(one for one in cloud.table if one.name not in names), *others])


@pytest_twisted.ensureDeferred
async def test_a_destroyed_machine_is_recoverable_for_a_day(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    job = await cloud.job("destroyVirtualMachine", id=vm.uuid)
    answer = job.result["virtualmachine"]
    assert answer["state"] == "Destroyed"
    assert "its disk is deleted after" in answer["reason"]
    assert vm.instance_name not in [n for n, s in cloud.hypervisor.statuses.items() if s.state.alive]
    destroyed = cloud.instance(vm.id)
    assert destroyed.expunge_at is not None
    assert timedelta(hours=23) < destroyed.expunge_at - now() <= timedelta(hours=24)
    volume = present(cloud.database.run_now(volumes.root_of, vm.id))
    assert cloud.primary.volume_path(volume.uuid).exists()
    recovered = await cloud.call("recoverVirtualMachine", id=vm.uuid)
    assert recovered["virtualmachine"]["state"] == "Stopped"
    assert "reason" not in recovered["virtualmachine"]
    assert cloud.instance(vm.id).expunge_at is None
    clones = dict(cloud.primary.clones)
    started = await cloud.job("startVirtualMachine", id=vm.uuid)
    assert started.result["virtualmachine"]["state"] == "Running"
    assert cloud.primary.clones == clones, "it keeps its disk"


@pytest_twisted.ensureDeferred
async def test_destroyed_machine_neither_starts_nor_stops(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    await cloud.machines.destroy(vm.id)
    for act in (cloud.machines.start, cloud.machines.stop):
        with pytest.raises(MachineStateError, match="is Destroyed"):
            await act(vm.id)
    job = await cloud.job("startVirtualMachine", id=vm.uuid)
    assert (job.result_code, "recoverVirtualMachine" in job.result["hint"]) == (431, True)
    await cloud.machines.expunge(vm.id)
    for act in (cloud.machines.start, cloud.machines.stop):
        with pytest.raises(NotFoundError, match="was destroyed"):
            await act(vm.id)


@pytest_twisted.ensureDeferred
async def test_only_destroyed_machines_can_be_recovered_or_expunged(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    with pytest.raises(MachineStateError, match="not in the right state"):
        await cloud.call("recoverVirtualMachine", id=vm.uuid)
    job = await cloud.job("expungeVirtualMachine", id=vm.uuid)
    assert (job.result_code, job.result["errortext"]) == (
        431,
        "Please destroy vm with specified vmId before expunge",
    )
    assert cloud.instance(vm.id).state is InstanceState.RUNNING
    await cloud.machines.destroy(vm.id)
    assert (await cloud.job("expungeVirtualMachine", id=vm.uuid)).result == {"success": True}
    with pytest.raises(NotFoundError):
        await cloud.call("recoverVirtualMachine", id=vm.uuid)


@pytest_twisted.ensureDeferred
async def test_machine_being_expunged_cannot_be_recovered(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud)
    await cloud.machines.destroy(vm.id)
    cloud.update_instance(vm, state=InstanceState.EXPUNGING)
    with pytest.raises(MachineStateError, match="not in the right state"):
        await cloud.machines.recover(vm.id)


@pytest_twisted.ensureDeferred
async def test_users_see_destroyed_machines_only_by_configuration(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud, cloud.user)
    await cloud.machines.destroy(vm.id)

    async def listed(caller: Any, **more: Any) -> list[str]:
        found = await cloud.call("listVirtualMachines", caller, listall="true", **more)
        return [row["id"] for row in found.get("virtualmachine", [])]

    assert await listed(cloud.admin) == [vm.uuid]
    assert await listed(cloud.admin, state="Destroyed") == [vm.uuid]
    assert await listed(cloud.admin, state="Present") == []
    assert await listed(cloud.admin, state="Stopped") == []
    assert await listed(cloud.user) == []
    assert await listed(cloud.user, id=vm.uuid) == []
    setting = {"name": "allow.user.view.destroyed.vm"}
    await cloud.call("updateConfiguration", **setting, value="true")
    assert await listed(cloud.user) == [vm.uuid]
    await cloud.call("resetConfiguration", **setting)
    assert await listed(cloud.user) == []
    use_rules(cloud, ExpungeConfig(allow_user_view_destroyed_vm=True))
    assert await listed(cloud.user) == [vm.uuid]
    await cloud.call("updateConfiguration", **setting, value="false")
    assert await listed(cloud.user) == []


@pytest_twisted.ensureDeferred
async def test_users_can_destroy_and_only_administrators_expunge(cloud: SmallCloud) -> None:
    vm = await deploy_running(cloud, cloud.user)
    for command, more in [
        ("destroyVirtualMachine", {"expunge": "true"}),
        ("expungeVirtualMachine", {}),
        ("recoverVirtualMachine", {}),
    ]:
        with pytest.raises(ApiError, match=r"allow\.user\.expunge\.recover\.vm") as refused:
            await cloud.call(command, cloud.user, id=vm.uuid, **more)
        assert refused.value.code == 401
    assert cloud.instance(vm.id).state is InstanceState.RUNNING
    setting = {"name": "allow.user.expunge.recover.vm"}
    assert (await cloud.call("listConfigurations", **setting))["configuration"][0]["value"] == "false"
    for permit in (
        partial(cloud.call, "updateConfiguration", **setting, value="true"),
        partial(by_file, cloud, ExpungeConfig(allow_user_expunge_recover_vm=True)),
    ):
        assert (await cloud.job("destroyVirtualMachine", cloud.user, id=vm.uuid)).result_code == 0
        await permit()
        recovered = await cloud.call("recoverVirtualMachine", cloud.user, id=vm.uuid)
        assert recovered["virtualmachine"]["state"] == "Stopped"
        await cloud.call("resetConfiguration", **setting)


async def by_file(cloud: SmallCloud, rules: ExpungeConfig) -> None:
    use_rules(cloud, rules)


@pytest_twisted.ensureDeferred
async def test_a_vm_is_kept_for_as_long_as_the_setting_says(cloud: SmallCloud) -> None:
    kept, gone = [await deploy_running(cloud) for _ in range(2)]
    await cloud.call("updateConfiguration", name="expunge.delay", value="7200")
    await cloud.machines.destroy(kept.id)
    await cloud.call("updateConfiguration", name="expunge.delay", value="0")
    await cloud.machines.destroy(gone.id)
    assert await cloud.database.read(instances.due_for_expunge, cloud.host.id) == [gone.id]
    until = cloud.instance(kept.id).expunge_at
    assert until is not None
    assert until - now() > timedelta(hours=1)


@pytest_twisted.ensureDeferred
async def test_machine_of_another_account_cannot_be_recovered_or_expunged(cloud: SmallCloud) -> None:
    use_rules(cloud, ExpungeConfig(allow_user_expunge_recover_vm=True))
    vm = await deploy_running(cloud)
    await cloud.machines.destroy(vm.id)
    for command in ("recoverVirtualMachine", "expungeVirtualMachine", "destroyVirtualMachine"):
        with pytest.raises(ApiError, match="must not operate"):
            await cloud.call(command, cloud.user, id=vm.uuid)
