# SPDX-License-Identifier: Apache-2.0
"""Jobs about several objects, with the daemon killed at each of their steps: the next one completes them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from systemvm.management.state import accounts, domains, instances, jobs, storage_pools, templates, volumes
from systemvm.management.state.accounts import Account, Domain
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.state.storage_pools import StoragePool
from unit.management.zone_sequences.actions import create_pool, register_template
from unit.management.zone_sequences.consistency import check
from unit.management.zone_sequences.fuse import Killed
from unit.management.zone_sequences.test_zone_sequences import SEQUENCES
from unit.management.zone_sequences.world import World

#: A run of `make soak-zone` tries each step, others some.
EACH = 1 if SEQUENCES >= 1000 else 3
RUNNING, STOPPED = {InstanceState.RUNNING}, {InstanceState.STOPPED}


class Zone:
    """A domain with an account, which has two running machines with disks in a shared pool."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def fill(self) -> None:
        world = self.world
        await world.fuse.drive(world.start())
        await world.call("createServiceOffering", name="shared", cpunumber=1, memory=64, storagetype="shared")
        for action in (register_template, create_pool):
            await action(world)
        await world.call("createDomain", name="sales")
        world.add_account(self.domain.id)
        for _ in range(2):
            await self.deploy()
            await world.quiet()
        assert self.states == RUNNING

    async def deploy(self) -> None:
        world = self.world
        offerings = await world.call("listServiceOfferings", name="shared")
        [template] = world.present(templates.rows)
        await world.call(
            "deployVirtualMachine",
            zoneid=world.cloud.zone.uuid,
            templateid=template.uuid,
            serviceofferingid=offerings["serviceoffering"][0]["id"],
            account=self.account.name,
            domainid=self.domain.uuid,
        )

    @property
    def pool(self) -> StoragePool:
        [pool] = self.world.database.run_now(storage_pools.list_created)
        return pool

    @property
    def domain(self) -> Domain:
        return self.world.database.run_now(accounts.all_domains)[-1]

    @property
    def account(self) -> Account:
        return self.world.database.run_now(accounts.all_accounts)[-1]

    @property
    def machines(self) -> list[Instance]:
        return self.world.database.run_now(instances.list_user)

    @property
    def states(self) -> set[InstanceState]:
        return {vm.state for vm in self.machines}

    def places(self) -> set[int | None]:
        return {volume.pool_id for volume in self.world.present(volumes.rows)}

    async def complete(self) -> None:
        """Let all jobs end, whatever kills the daemon again."""
        while True:
            try:
                await self.world.quiet()
                await self.world.fuse.drive(self.world.tend())
                return
            except Killed:
                await self.world.restart()


async def _nothing(zone: Zone) -> None:
    pass


async def _enable(zone: Zone) -> None:
    await zone.world.call("enableStorageMaintenance", id=zone.pool.uuid)
    await zone.world.quiet()


#: Of each command: what is done before, its parameters, and whether it is complete.
JOBS: dict[
    str,
    tuple[Callable[[Zone], Awaitable[None]], Callable[[Zone], dict[str, Any]], Callable[[Zone], bool]],
] = {
    "disableAccount": (
        _nothing,
        lambda zone: {"id": zone.account.uuid, "lock": "false"},
        lambda zone: zone.states == STOPPED,
    ),
    "deleteDomain": (
        _nothing,
        lambda zone: {"id": zone.domain.uuid, "cleanup": "true"},
        lambda zone: (
            not zone.world.database.run_now(domains.is_present, zone.domain.id) and not zone.machines
        ),
    ),
    "enableStorageMaintenance": (
        _nothing,
        lambda zone: {"id": zone.pool.uuid},
        lambda zone: (zone.pool.state, zone.states) == (storage_pools.MAINTENANCE, STOPPED),
    ),
    "cancelStorageMaintenance": (
        _enable,
        lambda zone: {"id": zone.pool.uuid},
        lambda zone: (zone.pool.state, zone.states) == (storage_pools.UP, RUNNING),
    ),
}


async def _begun(directory: Path, pristine: Path, command: str, steps: int) -> bool:
    """Run a job, and kill the daemon after so many effects; return whether it was killed."""
    directory.mkdir()  # noqa: ASYNC240
    world = World(directory, pristine, random.Random(steps))
    zone = Zone(world)
    prepare, parameters, is_complete = JOBS[command]
    try:
        await zone.fill()
        await prepare(zone)
        assert not is_complete(zone)
        was_killed = False
        try:
            world.fuse.set(steps)
            await world.call(command, **parameters(zone))
            await world.quiet()
        except Killed:
            was_killed = True
            await world.restart()
        world.fuse.set(1 << 30)
        await zone.complete()
        is_begun = command in {job.command for job in world.database.run_now(jobs.rows.all)}
        assert is_complete(zone) is is_begun, (steps, zone.machines, zone.pool, zone.account)
        check(world)
        return was_killed
    finally:
        world.close()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("command", JOBS)
@pytest_twisted.ensureDeferred
async def test_a_job_survives_a_kill_at_each_of_its_steps(
    tmp_path: Path, pristine: Path, command: str
) -> None:
    steps = 0
    while await _begun(tmp_path / str(steps), pristine, command, steps):
        steps += EACH
    assert steps > 5
