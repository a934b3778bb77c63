# SPDX-License-Identifier: Apache-2.0
"""Maintenance of a storage pool: its VMs are stopped, nothing uses it, and they are started afterwards.

As in CloudStack the pool is PrepareForMaintenance while VMs are stopped, and ErrorInMaintenance when one of
them does not stop. A VM that is stopped so stays wanted, which is how the end of the maintenance finds it.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from systemvm.management.jobs.runner import Begins, at_once
from systemvm.management.primary.pools import PrimaryPools
from systemvm.management.state import instances, storage_pools, volumes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.state.storage_pools import (
    FAILED_MAINTENANCE,
    MAINTENANCE,
    PREPARING,
    UP,
    StoragePool,
)
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.management.volumes.service import Volumes
from systemvm.management.zone_model.refusals import wrong_state
from systemvm.service.errors import SystemVmError


class PoolMaintenance:
    """Both operations can be repeated after a restart of the daemon in their middle."""

    _log = Logger()

    def __init__(
        self, database: Database, pools: PrimaryPools[Any], machines: VirtualMachines, volumes: Volumes
    ) -> None:
        self._database = database
        self._pools = pools
        self._machines = machines
        self._volumes = volumes

    async def enable(self, pool_id: int) -> StoragePool:
        """Stop the VMs with disks in a pool, and end copies of templates; nothing uses it from then on.

        Raises: SystemVmError when a VM cannot be stopped: the pool is ErrorInMaintenance then.
        """
        pool = await self._database.run(_prepare, pool_id)
        if pool.state == MAINTENANCE:
            return pool
        try:
            for vm in await self._database.read(machines_in, pool_id):
                if vm.state.has_process:
                    await self._machines.stop(vm.id, wanted=True)
            self._pools.end_copies(pool)  # no VM waits for them any more
            for volume in await self._database.read(volumes.of_pool, pool_id):
                async with self._volumes.lock(volume.id):
                    pass  # what had begun before has ended
        except Exception:
            await self._database.run(storage_pools.update, pool_id, state=FAILED_MAINTENANCE)
            raise
        return await self._database.run(storage_pools.update, pool_id, state=MAINTENANCE)

    async def cancel(self, pool_id: int, begins: Begins = at_once) -> StoragePool:
        """Make a pool Up, and start the VMs that were stopped for it; one that fails has its reason.

        An earlier daemon can have made it Up, and another maintenance have begun since: that goes on.
        """
        pool = await self._database.run(_end, pool_id, begins)
        if pool.state != UP:
            return pool
        self._pools.permit_copies(pool)
        for vm in await self._database.read(machines_in, pool_id):
            if vm.wanted and vm.state is InstanceState.STOPPED:
                try:
                    await self._machines.start_again(vm.id)
                except SystemVmError as error:
                    self._log.warn("{name} stays stopped: {why}", name=vm.name, why=error.message)
        return pool


def machines_in(connection: Connection, pool_id: int) -> list[Instance]:
    """Return the VMs with a disk in a pool."""
    found = {volume.vm_id for volume in volumes.of_pool(connection, pool_id) if volume.vm_id is not None}
    return [instances.by_id(connection, vm_id) for vm_id in sorted(found)]


def _prepare(connection: Connection, pool_id: int) -> StoragePool:
    pool = storage_pools.by_id(connection, pool_id)
    if pool.is_own_directory:
        raise wrong_state(
            f"storage pool {pool.name}",
            "it is the directory of a host, which also has the disks of system VMs",
            "stop the VMs of the host instead",
        )
    if pool.state == MAINTENANCE:
        return pool
    return storage_pools.update(connection, pool_id, state=PREPARING)


def _end(connection: Connection, pool_id: int, begins: Begins) -> StoragePool:
    pool = storage_pools.by_id(connection, pool_id)
    if not begins(connection):
        return pool
    if pool.state not in (MAINTENANCE, FAILED_MAINTENANCE, UP):
        raise wrong_state(
            f"storage pool {pool.name}", f"it is {pool.state}", "start a maintenance before you end one"
        )
    return storage_pools.update(connection, pool_id, state=UP)
