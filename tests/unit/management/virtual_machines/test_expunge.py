# SPDX-License-Identifier: Apache-2.0
"""Destroyed machines are expunged when they are due, also after restarts of the daemon."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.task import Clock

from small_cloud import SmallCloud
from systemvm.management.state import instances, volumes
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.reaper import ExpungeReaper
from user_vms import deploy_running

PAST = timedelta(seconds=1)


def disk_of(cloud: SmallCloud, vm: Instance) -> Path:
    volume = cloud.database.run_now(volumes.root_of, vm.id)
    assert volume is not None
    return cloud.primary.volume_path(volume.uuid)


def reaper(cloud: SmallCloud, clock: Clock | None = None, *, host_id: int | None = None) -> ExpungeReaper:
    host = cloud.host.id if host_id is None else host_id
    return ExpungeReaper(clock or Clock(), cloud.database, cloud.machines, host_id=host, interval_s=60.0)


def make_due(cloud: SmallCloud, vm: Instance) -> None:
    cloud.update_instance(vm, expunge_at=now() - PAST)


@pytest_twisted.ensureDeferred
async def test_only_due_machines_are_expunged(cloud: SmallCloud) -> None:
    due, early, living = [await deploy_running(cloud) for _ in range(3)]
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
    vm = await deploy_running(cloud)
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
    vm = await deploy_running(cloud)
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
    vm = await deploy_running(cloud)
    await cloud.machines.destroy(vm.id)
    before = cloud.instance(vm.id)
    await cloud.machines.adopt({})
    assert cloud.instance(vm.id) == before


@pytest_twisted.ensureDeferred
async def test_failed_expunge_is_retried_and_delays_no_other(cloud: SmallCloud) -> None:
    first, second = await deploy_running(cloud), await deploy_running(cloud)
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
    vm = await deploy_running(cloud)
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
