# SPDX-License-Identifier: Apache-2.0
"""What the API does with pools on this host: prepare, measure, release."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.mount_helper import PoolMountError
from systemvm.management.primary.pool_usage import PoolUsage, Usages
from systemvm.management.primary.pools import PrimaryPools, reaches
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import storage_pools, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.storage_pools import StoragePool
from systemvm.service.errors import SystemVmError
from systemvm.service.periodic import Periodic
from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.mount_failure import MountFailure

#: Longer than what the mount helper is waited for, whose reason comes first.
PREPARE_S = 180.0
UNMOUNT_INTERVAL_S = 300.0


class StoragePools:
    """The pools that this host can use."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        pools: PrimaryPools[Any],
        usage: PoolUsage,
        own_directory: Path,
        clock: IReactorTime,
        *,
        host_id: int,
    ) -> None:
        self.own_directory = own_directory
        self._database = database
        self._pools = pools
        self._usage = usage
        self._clock = clock
        self._host_id = host_id
        self._attempts: SingleFlight[str] = SingleFlight()
        self._given_up: set[str] = set()  # the UUIDs of pools whose server hangs still
        self._creating: set[str] = set()  # the UUIDs of pools that get a row, or not
        self._unmounting = Periodic(clock, self.unmount_unknown, UNMOUNT_INTERVAL_S, what="unmount leftovers")

    def start(self) -> None:
        """Unmount now and from time to time what an earlier daemon has left."""
        self._unmounting.start(now=True)

    def stop(self) -> None:
        self._unmounting.stop()

    @asynccontextmanager
    async def prepared(self, pool: StoragePool) -> AsyncIterator[None]:
        """Have the directory of a pool usable, if this host is one of those that use it, while the block
        creates its row.

        Raises: PrimaryStorageError with the reason when it cannot be used. After a failure nothing stays
        mounted, or only until a server that hangs answers again.
        """
        self._creating.add(pool.uuid)
        try:
            await self._prepare_in_time(pool)
            try:
                yield
            except Exception:
                await self._release(pool)
                raise
        finally:
            self._creating.discard(pool.uuid)

    async def _prepare_in_time(self, pool: StoragePool) -> None:
        host = await self._database.read(zones.host_by_id, self._host_id)
        if not reaches(pool, host):
            return
        attempt = Deferred.fromCoroutine(self._attempts.run(pool.uuid, lambda: self._prepare(pool)))
        try:
            await add_scaled_timeout(attempt, PREPARE_S, self._clock)
        except TimeoutError:
            self._given_up.add(pool.uuid)
            raise PoolMountError(
                MountFailure.HANGS,
                f"storage pool {pool.name} cannot be used: {pool.place} does not answer",
                "check its server, and create the pool again",
            ) from None

    async def _prepare(self, pool: StoragePool) -> None:
        try:
            await self._pools.directories.prepare(pool)
            others = await self._database.read(_reachable, self._host_id)
            usages = await self._usage.of([pool, *others])
            if usages[pool.id] is None:
                raise PrimaryStorageError(
                    f"storage pool {pool.name} cannot be used: its file system does not answer",
                    "check the server, and create the pool again",
                )
            # one that is down would delay this
            up = [other for other in others if usages[other.id] is not None]
            await self._pools.directories.check_distinct(pool, up)
            if pool.uuid in self._given_up:
                raise PrimaryStorageError(f"storage pool {pool.name} has answered too late")
        except Exception:
            await self._release(pool)
            raise
        finally:
            self._given_up.discard(pool.uuid)

    async def _release(self, pool: StoragePool) -> None:
        """Undo what was prepared, as far as possible: there is an error to report already."""
        try:
            await self._pools.directories.release(pool)
        except (OSError, SystemVmError) as error:
            self._log.warn(
                "storage pool {name} was not created and is perhaps still mounted: {why}",
                name=pool.name,
                why=str(error),
            )

    async def close(self, pool: StoragePool) -> None:
        """Forget a pool that is to be deleted; nothing mounts it again.

        Raises: PrimaryStorageError when something uses its mount.
        """
        await self._pools.close(pool)

    async def reopen(self, pool: StoragePool) -> None:
        """Undo `close` for a pool that was not deleted after all."""
        if (await self._database.read(storage_pools.by_id, pool.id)).removed is None:
            self._pools.directories.reopen(pool)

    async def unmount_unknown(self) -> None:
        """Unmount what no pool has: a daemon was killed between a mount and its row, or something used it."""
        found = set(self._pools.directories.mount_points())
        # before the rows are read: what is created now has one later
        found -= self._creating | set(self._attempts.running())
        known = {pool.uuid for pool in await self._database.read(storage_pools.list_pools)}
        for uuid in sorted(found - known):
            try:
                await self._pools.directories.remove_mount_point(uuid)
                self._log.info("unmounted {uuid}, which no storage pool has", uuid=uuid)
            except (OSError, SystemVmError) as error:
                self._log.warn("{uuid} of no storage pool stays mounted: {why}", uuid=uuid, why=str(error))

    async def usages(self) -> Usages:
        """Return the usage of each pool that this host can use; None of one that is down."""
        return await self._usage.of(await self._database.read(_reachable, self._host_id))

    async def usage_of(self, pool_id: int | None) -> Usages:
        """Return the usage of one pool; nothing for the host's own directory, which has no limit."""
        pools = await self._database.read(_reachable, self._host_id) if pool_id is not None else []
        return await self._usage.of(pool for pool in pools if pool.id == pool_id)


def _reachable(connection: Connection, host_id: int) -> list[StoragePool]:
    host = zones.host_by_id(connection, host_id)
    return [
        pool
        for pool in storage_pools.list_pools(connection)
        if reaches(pool, host) and pool.state != storage_pools.MAINTENANCE
    ]
