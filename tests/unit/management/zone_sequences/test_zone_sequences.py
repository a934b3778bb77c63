# SPDX-License-Identifier: Apache-2.0
"""Any sequence of calls leaves model and storages consistent, with the daemon killed anywhere.

`make test` runs 200 sequences, `make soak-zone` 10,000. Each is repeatable by its number.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted

from systemvm.management.hypervisors.data_disks import ROOT_DISK
from systemvm.management.state import instances, jobs, storage_pools, templates, volumes
from systemvm.management.state.status import InstanceState
from unit.management.zone_sequences.actions import ACTIONS, create_pool, deploy, register_template
from unit.management.zone_sequences.consistency import check
from unit.management.zone_sequences.fuse import Killed
from unit.management.zone_sequences.world import World

SEQUENCES = int(os.environ.get("ZONE_SEQUENCES", "30"))
FIRST = int(os.environ.get("ZONE_SEQUENCE", "0"))
#: A test is so many sequences, so that the processes of a run share them.
EACH = 10


async def run(number: int, directory: Path, pristine: Path) -> World:
    """Run one sequence, and end it with everything in order again."""
    order = random.Random(number)
    world = World(directory, pristine, order)
    try:
        await world.fuse.drive(world.start())
        await world.call("createServiceOffering", name="shared", cpunumber=1, memory=64, storagetype="shared")
        for action in (register_template, create_pool, deploy):
            await action(world)
        with_faults = order.random() < 0.4
        for _ in range(order.randint(4, 15)):
            await step(world, with_faults=with_faults)
        world.faults.share = 0.0
        await world.restart()
        await settle(world)
        check(world)
    except BaseException as error:
        error.add_note("\n".join([f"sequence {number}:", *world.log]))
        raise
    finally:
        world.close()
    return world


async def step(world: World, *, with_faults: bool) -> None:
    order = world.order
    world.faults.share = 0.1 if with_faults and order.random() < 0.5 else 0.0
    if order.random() < 0.15:
        world.fuse.set(order.randrange(30))
    [action] = order.choices(list(ACTIONS), list(ACTIONS.values()))
    try:
        await action(world)
        if order.random() < 0.7:  # otherwise the next call comes meanwhile
            await world.quiet()
            if not with_faults:
                await world.fuse.drive(world.tend())
                check(world)
    except Killed:
        await world.restart()


async def settle(world: World) -> None:
    while True:
        try:
            await world.quiet()
            await world.end_maintenance()
            await world.fuse.drive(world.tend())
            return
        except Killed:
            await world.restart()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEQUENCES, EACH))
@pytest_twisted.ensureDeferred
async def test_any_sequence_of_calls_and_kills_leaves_all_consistent(first: int, pristine: Path) -> None:
    for number in range(first, first + min(EACH, SEQUENCES)):
        with TemporaryDirectory(prefix="zone") as name:
            await run(number, Path(name), pristine)


@pytest_twisted.ensureDeferred
async def test_disks_are_made_in_each_way(tmp_path: Path, pristine: Path) -> None:
    """Sequences by chance do not show an operation that always fails."""
    world = World(tmp_path, pristine, random.Random(0))

    async def call(command: str, **parameters: Any) -> Any:
        answer = await world.call(command, **parameters)
        await world.quiet()
        job = world.database.run_now(jobs.by_uuid, answer["jobid"])
        assert job.result_code == 0, f"{command}: {job.result}"
        return job.result

    try:
        await world.fuse.drive(world.start())
        for action in (register_template, create_pool, create_pool):
            await action(world)
        first, second = world.database.run_now(storage_pools.list_created)
        volume = (await call("createVolume", name="data", size=1, storageid=first.uuid))["volume"]
        snapshot = (await call("createSnapshot", volumeid=volume["id"]))["snapshot"]
        await call("createVolume", name="restored", snapshotid=snapshot["id"], storageid=second.uuid)
        await call("migrateVolume", volumeid=volume["id"], storageid=second.uuid)
        await call("resizeVolume", id=volume["id"], size=2)
        await call("revertSnapshot", id=snapshot["id"])
        await world.fuse.drive(world.tend())
        check(world)
        made = world.present(volumes.rows)
        assert [each.pool_id for each in made] == [second.id, second.id]
    finally:
        world.close()


async def _restored(directory: Path, pristine: Path, steps: int, meanwhile: str | None) -> bool:
    """Restore a running VM from another template, and stop or destroy it meanwhile; the daemon is killed
    after so many effects, and started again. Return whether it was.
    """
    directory.mkdir()  # noqa: ASYNC240
    world = World(directory, pristine, random.Random(steps))
    try:
        await world.fuse.drive(world.start())
        for _ in range(2):
            await register_template(world)
        first, second = world.present(templates.rows)
        offering = (await world.call("listServiceOfferings", name="small"))["serviceoffering"][0]["id"]
        zone = world.cloud.zone.uuid
        await world.call(
            "deployVirtualMachine", zoneid=zone, templateid=first.uuid, serviceofferingid=offering
        )
        await world.quiet()
        [before] = world.present(volumes.rows)
        [vm] = world.database.run_now(instances.list_user)
        try:
            world.fuse.set(steps)
            await world.call("restoreVirtualMachine", virtualmachineid=vm.uuid, templateid=second.uuid)
            if meanwhile is not None:
                await world.call(meanwhile, id=vm.uuid)
            await world.quiet()
            was_killed = False
        except Killed:
            was_killed = True
            await world.restart()
        world.fuse.set(1 << 30)
        await settle(world)
        check(world)
        [root] = world.present(volumes.rows)
        vm = world.database.run_now(instances.by_id, vm.id)
        begun = {job.command for job in world.database.run_now(jobs.rows.all)}
        is_restored = root.id != before.id
        assert root.template_id == (second if is_restored else first).id
        if vm.state is InstanceState.DESTROYED:
            assert meanwhile == "destroyVirtualMachine"
            assert not world.machines.running()
            return was_killed
        assert is_restored is ("restoreVirtualMachine" in begun), "it is restored if the call was answered"
        if meanwhile in begun:
            assert (vm.state, world.machines.running()) == (InstanceState.STOPPED, [])
            return was_killed
        assert world.machines.running() == [vm.instance_name]
        assert world.machines.disks_in(vm.instance_name) == {ROOT_DISK: Path(root.path or "")}
        return was_killed
    finally:
        world.close()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("meanwhile", [None, "stopVirtualMachine", "destroyVirtualMachine"])
@pytest_twisted.ensureDeferred
async def test_a_restoration_survives_a_kill_at_each_of_its_steps(
    tmp_path: Path, pristine: Path, meanwhile: str | None
) -> None:
    steps = 0
    while await _restored(tmp_path / str(steps), pristine, steps, meanwhile):
        steps += 1
    assert steps > (4 if meanwhile else 20)  # effects on rows, files and the machine
