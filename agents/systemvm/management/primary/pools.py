# SPDX-License-Identifier: Apache-2.0
"""The storage of each pool as this host reaches it; a pool is opened when it is first used.

The host's own directory is the pool without a number: it is there without a request, and it is the only one
that system VMs have their disks in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThread

from systemvm.management.primary.copy_permission import CopyPermission, Reason
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import storage_pools, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.zones import Host

S = TypeVar("S", bound="CopiedStorage")
S_co = TypeVar("S_co", covariant=True)


class StorageByPool(Protocol[S_co]):
    """The part of the pools that serves disks."""

    async def of(self, pool_id: int | None) -> S_co: ...


class PoolDirectories(Protocol):
    """Makes the directory of a pool usable on this host."""

    def directory(self, pool: StoragePool) -> Path: ...
    async def prepare(self, pool: StoragePool) -> Path: ...
    async def check_distinct(self, pool: StoragePool, others: Iterable[StoragePool]) -> None: ...
    async def release(self, pool: StoragePool) -> None: ...
    def reopen(self, pool: StoragePool) -> None: ...
    def mount_points(self) -> list[str]: ...
    async def remove_mount_point(self, pool_uuid: str) -> None: ...


class CopiedStorage(Protocol):
    """The storage of a pool, which templates are copied into."""

    copying: CopyPermission


class PrimaryPools(Generic[S]):
    """The pools that were created by the API, and the host's own directory."""

    def __init__(
        self,
        database: Database,
        own: S,
        directories: PoolDirectories,
        open_storage: Callable[[Path], S],
        *,
        host_id: int,
    ) -> None:
        """`open_storage` makes what is missing in a directory; it blocks, and runs in a thread."""
        self.own = own
        self.directories = directories
        self._database = database
        self._open_storage = open_storage
        self._host_id = host_id
        self._opened: dict[int, S] = {}
        self._locks: dict[int, DeferredLock] = {}
        self._refusals: dict[int, Reason] = {}  # of copies of templates, by the numbers of pools

    async def of(self, pool_id: int | None) -> S:
        """Return the storage of a pool.

        Raises: PrimaryStorageError when the pool is in maintenance, or this host cannot use it.
        """
        if pool_id is None:
            return self.own
        pool, host = await self._database.read(_pool_and_host, pool_id, self._host_id)
        _check_usable(pool, host)
        return await self.open(pool)

    async def open(self, pool: StoragePool) -> S:
        """Return the storage of a pool in any state; its directory is mounted and checked each time."""
        async with self._locks.setdefault(pool.id, DeferredLock()):
            directory = await self.directories.prepare(pool)
            storage = self._opened.get(pool.id)
            if storage is None:
                try:
                    storage = await deferToThread(self._open_storage, directory)
                except OSError as error:
                    raise PrimaryStorageError(
                        f"storage pool {pool.name} cannot be used: {error.strerror}: {error.filename}",
                        "check the directory of the pool and its owner",
                    ) from error
                self._opened[pool.id] = storage
                if (reason := self._refusals.get(pool.id)) is not None:
                    storage.copying.refuse(reason)
            return storage

    def end_copies(self, pool: StoragePool) -> None:
        """End the copies of templates into a pool that is not usable any more, by its state; none begins.

        Nobody waits for their ends: one whose image store hangs ends when that answers.
        """
        reason = self._refusals[pool.id] = partial(_in_maintenance, pool)
        if pool.id in self._opened:
            self._opened[pool.id].copying.refuse(reason)

    def permit_copies(self, pool: StoragePool) -> None:
        """Undo `end_copies`."""
        self._refusals.pop(pool.id, None)
        if pool.id in self._opened:
            self._opened[pool.id].copying.permit()

    async def close(self, pool: StoragePool) -> None:
        """Forget a pool that is to be deleted, and unmount it on this host.

        Raises: PrimaryStorageError when something uses the mount.
        """
        async with self._locks.setdefault(pool.id, DeferredLock()):
            await self.directories.release(pool)
            self._opened.pop(pool.id, None)


def reaches(pool: StoragePool, host: Host) -> bool:
    """Return whether the machines of a host can use a pool."""
    if pool.scope == storage_pools.HOST:
        return pool.host_id == host.id
    if pool.scope == storage_pools.CLUSTER:
        return pool.cluster_id == host.cluster_id
    return pool.zone_id == host.zone_id


def _pool_and_host(connection: Connection, pool_id: int, host_id: int) -> tuple[StoragePool, Host]:
    return storage_pools.by_id(connection, pool_id), zones.host_by_id(connection, host_id)


def _check_usable(pool: StoragePool, host: Host) -> None:
    if pool.removed is not None:
        raise PrimaryStorageError(f"storage pool {pool.name} was deleted")
    if pool.state not in (storage_pools.UP, storage_pools.DISABLED):
        raise _in_maintenance(pool)
    if not reaches(pool, host):
        raise PrimaryStorageError(
            f"storage pool {pool.name} cannot be used on host {host.name}: its scope is {pool.scope}",
            "use a pool of this host, of its cluster or of the whole zone",
        )


def _in_maintenance(pool: StoragePool) -> PrimaryStorageError:
    return PrimaryStorageError(
        f"storage pool {pool.name} is in the state {pool.state}",
        "wait for the end of its maintenance, or end it with cancelStorageMaintenance",
    )
