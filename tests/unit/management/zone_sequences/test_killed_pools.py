# SPDX-License-Identifier: Apache-2.0
"""Storage pools on NFS, with the daemon killed at each step of a call: the call can be repeated."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import pytest_twisted

from systemvm.management.state import storage_pools
from unit.management.zone_sequences.consistency import check
from unit.management.zone_sequences.fuse import Killed
from unit.management.zone_sequences.world import World

CREATE, DELETE = "createStoragePool", "deleteStoragePool"


async def _call(world: World, command: str) -> None:
    """Create the pool, or delete it if it is there."""
    if command == CREATE:
        await world.call(
            CREATE, name="nfs", zoneid=world.cloud.zone.uuid, url="nfs://192.0.2.1/export/primary"
        )
        return
    for pool in world.database.run_now(storage_pools.list_created):
        await world.call(DELETE, id=pool.uuid)


async def _killed(directory: Path, pristine: Path, command: str, steps: int) -> bool:
    """Make a call, and kill the daemon after so many effects; return whether it was killed."""
    directory.mkdir()  # noqa: ASYNC240
    world = World(directory, pristine, random.Random(steps))
    try:
        await world.fuse.drive(world.start())
        if command == DELETE:
            await _call(world, CREATE)
        was_killed = False
        try:
            world.fuse.set(steps)
            await _call(world, command)
        except Killed:
            was_killed = True
            await world.restart()
        world.fuse.set(1 << 30)
        await world.fuse.drive(world.tend())
        check(world)
        await _call(world, command)
        states = [pool["state"] for pool in await _listed(world)]
        assert states == (["Up"] if command == CREATE else [])
        check(world)
        await _call(world, DELETE)
        assert world.cloud.mounter.mountinfo.read_text() == ""
        assert list(world.cloud.mounter.mounts.iterdir()) == []
        return was_killed
    finally:
        world.close()


async def _listed(world: World) -> list[dict[str, str]]:
    """Return the pools that the API has created; a list mounts each of them that can be mounted."""
    pools = (await world.call("listStoragePools"))["storagepool"]
    return [pool for pool in pools if pool["name"] == "nfs"]


@pytest.mark.parametrize("command", [CREATE, DELETE])
@pytest_twisted.ensureDeferred
async def test_a_pool_is_created_and_deleted_again_after_a_kill_at_each_step(
    tmp_path: Path, pristine: Path, command: str
) -> None:
    steps = 0
    while await _killed(tmp_path / str(steps), pristine, command, steps):
        steps += 1
    assert steps >= 4  # before and after the mount helper and the row
