# SPDX-License-Identifier: Apache-2.0
"""Destroyed machines can be recovered for expunge.delay and are expunged after it, also after restarts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.task import Clock

from small_cloud import SmallCloud
from systemvm.management.api.command import CommandTable
from systemvm.management.api.commands.virtual_machines import VirtualMachineCommands
from systemvm.management.api.errors import ApiError
from systemvm.management.config import ExpungeConfig
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.state import instances, templates, volumes
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.deployment import Deployment
from systemvm.management.virtual_machines.errors import MachineStateError
from systemvm.management.virtual_machines.reaper import ExpungeReaper

PAST = timedelta(seconds=1)


async def deployed(
    cloud: SmallCloud, owner: Any = None, *, template: Any = None, start: bool = True
) -> Instance:
    owner = owner or cloud.admin
    source = template or cloud.add_template()[0]
    vm = await cloud.machines.deploy(
        Deployment(
            template_id=source.id,
            zone_id=cloud.zone.id,
            host_id=cloud.host.id,
            account_id=owner.account.id,
            domain_id=owner.domain.id,
            user_id=owner.user.id,
            vcpus=1,
            memory_mib=64,
            bridge="cloudbr3",
        )
    )
    return await cloud.machines.start(vm.id) if start else vm


def disk_of(cloud: SmallCloud, vm: Instance) -> Path:
    volume = cloud.database.run_now(volumes.root_of, vm.id)
    assert volume is not None
    return cloud.primary.volume_path(volume.uuid)


def reaper(cloud: SmallCloud, clock: Clock | None = None, *, host_id: int | None = None) -> ExpungeReaper:
    host = cloud.host.id if host_id is None else host_id
    return ExpungeReaper(clock or Clock(), cloud.database, cloud.machines, host_id=host, interval_s=60.0)


def use_rules(cloud: SmallCloud, rules: ExpungeConfig) -> None:
    """Replace the commands about machines by those of another configuration."""
    others = VirtualMachineCommands(
        cloud.database,
        cloud.machines,
        JobRunner(cloud.database, cloud.clock),
        lambda zone: "cloudbr3",
        host_id=cloud.host.id,
        expunge=rules,
    ).commands()
    names = {command.name for command in others}
    cloud.table = CommandTable([*(one for one in cloud.table if one.name not in names), *others])


def make_due(cloud: SmallCloud, vm: Instance) -> None:
    cloud.update_instance(vm, expunge_at=now() - PAST)


# --- destroy and recover


@pytest_twisted.ensureDeferred
async def test_a_destroyed_machine_is_recoverable_for_a_day(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    job = await cloud.job("destroyVirtualMachine", id=vm.uuid)
    answer = job.result["virtualmachine"]
    assert answer["state"] == "Destroyed"
    assert "its disk is deleted after" in answer["reason"]
    assert vm.instance_name not in [n for n, s in cloud.hypervisor.statuses.items() if s.state.alive]
    destroyed = cloud.instance(vm.id)
    assert destroyed.expunge_at is not None
    assert timedelta(hours=23) < destroyed.expunge_at - now() <= timedelta(hours=24)
    assert disk_of(cloud, vm).exists()
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
    vm = await deployed(cloud)
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
    vm = await deployed(cloud)
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
    vm = await deployed(cloud)
    await cloud.machines.destroy(vm.id)
    cloud.update_instance(vm, state=InstanceState.EXPUNGING)
    with pytest.raises(MachineStateError, match="not in the right state"):
        await cloud.machines.recover(vm.id)


@pytest_twisted.ensureDeferred
async def test_visibility_of_destroyed_machines(cloud: SmallCloud) -> None:
    vm = await deployed(cloud, cloud.user)
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
    use_rules(cloud, ExpungeConfig(allow_user_view_destroyed_vm=True))
    assert await listed(cloud.user) == [vm.uuid]


@pytest_twisted.ensureDeferred
async def test_users_destroy_and_administrators_expunge(cloud: SmallCloud) -> None:
    vm = await deployed(cloud, cloud.user)
    for command, more in [
        ("destroyVirtualMachine", {"expunge": "true"}),
        ("expungeVirtualMachine", {}),
        ("recoverVirtualMachine", {}),
    ]:
        with pytest.raises(ApiError, match=r"allow\.user\.expunge\.recover\.vm") as refused:
            await cloud.call(command, cloud.user, id=vm.uuid, **more)
        assert refused.value.code == 401
    assert cloud.instance(vm.id).state is InstanceState.RUNNING
    assert (await cloud.job("destroyVirtualMachine", cloud.user, id=vm.uuid)).result_code == 0
    use_rules(cloud, ExpungeConfig(allow_user_expunge_recover_vm=True))
    recovered = await cloud.call("recoverVirtualMachine", cloud.user, id=vm.uuid)
    assert recovered["virtualmachine"]["state"] == "Stopped"


@pytest_twisted.ensureDeferred
async def test_machine_of_another_account_cannot_be_recovered_or_expunged(cloud: SmallCloud) -> None:
    use_rules(cloud, ExpungeConfig(allow_user_expunge_recover_vm=True))
    vm = await deployed(cloud)
    await cloud.machines.destroy(vm.id)
    for command in ("recoverVirtualMachine", "expungeVirtualMachine", "destroyVirtualMachine"):
        with pytest.raises(ApiError, match="must not operate"):
            await cloud.call(command, cloud.user, id=vm.uuid)


# --- the reaper and restarts of the daemon


@pytest_twisted.ensureDeferred
async def test_only_due_machines_are_expunged(cloud: SmallCloud) -> None:
    due, early, living = [await deployed(cloud) for _ in range(3)]
    paths = [disk_of(cloud, vm) for vm in (due, early, living)]
    for vm in (due, early):
        await cloud.machines.destroy(vm.id)
    make_due(cloud, due)
    assert await reaper(cloud, host_id=cloud.host.id + 1).expunge_due() == 0, "the machine is on another host"
    assert await reaper(cloud).expunge_due() == 1
    assert [path.exists() for path in paths] == [False, True, True]
    assert [cloud.instance(vm.id).removed is None for vm in (due, early, living)] == [False, True, True]
    assert await reaper(cloud).expunge_due() == 0


@pytest_twisted.ensureDeferred
async def test_machine_recovered_after_listing_is_not_expunged(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    await cloud.machines.destroy(vm.id)
    make_due(cloud, vm)
    assert cloud.database.run_now(instances.due_for_expunge, cloud.host.id) == [vm.id]
    await cloud.machines.recover(vm.id)
    assert not await cloud.machines.expunge_if_due(vm.id)
    assert disk_of(cloud, vm).exists()
    await cloud.machines.destroy(vm.id)
    assert not await cloud.machines.expunge_if_due(vm.id), "its delay starts again"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("disk_is_gone", [False, True])
async def test_next_daemon_completes_an_expunge(cloud: SmallCloud, disk_is_gone: bool) -> None:
    vm = await deployed(cloud)
    path = disk_of(cloud, vm)
    await cloud.machines.destroy(vm.id)
    cloud.update_instance(vm, state=InstanceState.EXPUNGING, expunge_at=now() - PAST)
    if disk_is_gone:
        path.unlink()
    await cloud.machines.adopt({})
    assert cloud.instance(vm.id).state is InstanceState.EXPUNGING
    assert await reaper(cloud).expunge_due() == 1
    assert not path.exists()
    assert cloud.instance(vm.id).removed is not None


@pytest_twisted.ensureDeferred
async def test_a_restart_leaves_destroyed_machines_as_they_are(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    await cloud.machines.destroy(vm.id)
    before = cloud.instance(vm.id)
    await cloud.machines.adopt({})
    assert cloud.instance(vm.id) == before


@pytest_twisted.ensureDeferred
async def test_failed_expunge_is_retried_and_delays_no_other(cloud: SmallCloud) -> None:
    first, second = await deployed(cloud), await deployed(cloud)
    paths = [disk_of(cloud, vm) for vm in (first, second)]
    for vm in (first, second):
        await cloud.machines.destroy(vm.id)
        make_due(cloud, vm)
    delete, broken = cloud.primary.delete_volume, True

    async def fails_once(volume_uuid: str) -> None:
        if broken and cloud.primary.volume_path(volume_uuid) == paths[0]:
            raise OSError("disk on fire")
        await delete(volume_uuid)

    cloud.primary.delete_volume = fails_once  # type: ignore[method-assign]
    assert await reaper(cloud).expunge_due() == 1
    assert [path.exists() for path in paths] == [True, False]
    broken = False
    assert await reaper(cloud).expunge_due() == 1
    assert not paths[0].exists()


class SlowMachines:
    """The service of machines, whose expunging ends when the test ends it."""

    def __init__(self) -> None:
        self.begun: DeferredQueue[int] = DeferredQueue()
        self.ends: list[Deferred[bool]] = []

    async def expunge_if_due(self, vm_id: int) -> bool:
        self.ends.append(Deferred())
        self.begun.put(vm_id)
        return await self.ends[-1]


@pytest_twisted.ensureDeferred
async def test_passes_never_overlap_and_continue_after_a_failure(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    await cloud.machines.destroy(vm.id)
    make_due(cloud, vm)
    clock, machines = Clock(), SlowMachines()
    periodic = ExpungeReaper(clock, cloud.database, machines, host_id=cloud.host.id, interval_s=60.0)
    periodic.start()
    await machines.begun.get()
    await cloud.database.read(instances.by_id, vm.id)  # let the reaper wait for the end
    clock.pump([60] * 3)
    machines.ends[0].errback(RuntimeError("no disk"))
    clock.advance(60)
    await machines.begun.get()
    assert len(machines.ends) == 2
    machines.ends[1].callback(True)
    periodic.stop()
    assert not clock.getDelayedCalls()


# --- templates in use


@pytest_twisted.ensureDeferred
async def test_a_template_in_use_is_deleted_by_force_only(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    vm = await deployed(cloud, template=template)
    job = await cloud.job("deleteTemplate", id=template.uuid)
    assert (job.result_code, job.result["errortext"]) == (
        431,
        f"Unable to delete template with id: {template.uuid} because VM instances: [{vm.name}] are using it.",
    )
    assert cloud.database.run_now(templates.by_id, template.id).removed is None
    await cloud.machines.destroy(vm.id)
    job = await cloud.job("deleteTemplate", id=template.uuid)
    assert job.result_code == 431, "a recoverable machine uses it too"
    await cloud.machines.expunge(vm.id)
    assert (await cloud.job("deleteTemplate", id=template.uuid)).result_code == 0


@pytest_twisted.ensureDeferred
async def test_clones_of_a_template_deleted_by_force_can_start(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    clone = await deployed(cloud, template=template)
    await cloud.machines.stop(clone.id)
    never_started = await deployed(cloud, template=template, start=False)
    assert (await cloud.job("deleteTemplate", id=template.uuid, forced="true")).result_code == 0
    cloud.database.run_now(templates.update_store_ref, ref.id, removed=now())
    for vm in (clone, never_started):
        assert (await cloud.machines.start(vm.id)).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_deleted_template_is_copied_for_machines_without_a_disk(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    vm = await deployed(cloud, template=template, start=False)
    assert cloud.primary.copied == []
    await cloud.templates.delete(template.id, forced=True)
    assert len(cloud.primary.copied) == 1, "copied before its file is deleted from the store"
    cloud.database.run_now(templates.update_store_ref, ref.id, removed=now())
    assert (await cloud.machines.start(vm.id)).state is InstanceState.RUNNING
    assert len(cloud.primary.copied) == 1


@pytest_twisted.ensureDeferred
async def test_template_is_kept_when_it_cannot_be_copied_for_its_machines(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    await deployed(cloud, template=template, start=False)
    cloud.primary.fails_with = OSError("no room")
    job = await cloud.job("deleteTemplate", id=template.uuid, forced="true")
    assert job.result_code != 0
    assert cloud.database.run_now(templates.by_id, template.id).removed is None
    cloud.primary.fails_with = None
    assert (await cloud.job("deleteTemplate", id=template.uuid, forced="true")).result_code == 0
