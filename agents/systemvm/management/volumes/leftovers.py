# SPDX-License-Identifier: Apache-2.0
"""Deletes what is left on primary storage: files that nothing needs, and volumes that nobody makes.

A pool did not answer when a file was to be deleted, or the daemon was killed between a row and its file. A
file without a row, or of another host, stays: it is not of this daemon. So does the file of a volume that is
in another pool, unless it is certain that this is another file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.primary.pools import StorageByPool
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.primary.uefi_variables import UefiVariables
from systemvm.management.state import jobs, snapshots, storage_pools, volumes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes import transitions
from systemvm.management.volumes.service import Volumes


class ListedStorage(Protocol):
    """The part of primary storage that lists files by their UUIDs and deletes them."""

    def volume_path(self, volume_uuid: str) -> Path: ...
    async def volume_names(self) -> list[str]: ...
    async def snapshot_names(self) -> list[str]: ...
    async def delete_volume(self, volume_uuid: str) -> None: ...
    async def delete_snapshot(self, name: str) -> None: ...


class Leftovers:
    """Compares the files in each pool with rows."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        primary: StorageByPool[ListedStorage],
        service: Volumes,
        variables: UefiVariables,
        *,
        host_id: int,
    ) -> None:
        self._database = database
        self._primary = primary
        self._volumes = service
        self._variables = variables
        self._host_id = host_id

    async def claim_unmade(self) -> None:
        """Have volumes deleted whose row was created, and then the daemon was killed before their job was.

        Call it before jobs are resumed, and `Volumes.finish_deletions` afterwards.
        """
        await self._database.run(_claim_unmade, self._host_id)

    async def delete(self) -> None:
        """Delete what is left in each pool that can be used now."""
        for pool in (None, *await self._database.read(storage_pools.list_created)):
            pool_id = None if pool is None else pool.id
            try:
                await self._delete_in(pool_id, await self._primary.of(pool_id))
            except (OSError, PrimaryStorageError) as error:
                self._log.info("leftovers in storage pool {id} stay: {why}", id=pool_id, why=str(error))
        await self._delete_variables()

    async def _delete_in(self, pool_id: int | None, storage: ListedStorage) -> None:
        for uuid in await storage.volume_names():
            found = await self._database.read(volumes.find, uuid)
            if found is not None and self._is_elsewhere(found, pool_id):
                async with self._volumes.lock(found.id) as volume:  # nobody moves it meanwhile
                    if self._is_elsewhere(volume, pool_id) and await self._is_needless(volume, storage):
                        await storage.delete_volume(uuid)
        for name in await storage.snapshot_names():
            snapshot = await self._database.read(snapshots.find, name)
            if snapshot is not None and snapshot.host_id == self._host_id and snapshot.state.has_ended:
                await storage.delete_snapshot(name)

    async def _delete_variables(self) -> None:
        """Delete the UEFI variables of root disks that were deleted."""
        for uuid in await deferToThread(self._variables.names):
            found = await self._database.read(volumes.find, uuid)
            if found is not None and found.removed is not None:
                await deferToThread(self._variables.delete, uuid)

    def _is_elsewhere(self, volume: Volume, pool_id: int | None) -> bool:
        is_here = volume.removed is None and volume.pool_id == pool_id
        return volume.host_id == self._host_id and not is_here

    async def _is_needless(self, volume: Volume, storage: ListedStorage) -> bool:
        """Return whether a file is of a deleted volume, or of one that has another file in its own pool."""
        if volume.removed is not None:
            return True
        try:
            own = await self._primary.of(volume.pool_id)
            return await deferToThread(
                _are_two, own.volume_path(volume.uuid), storage.volume_path(volume.uuid)
            )
        except (OSError, PrimaryStorageError) as error:
            self._log.info("second file of volume {uuid} stays: {why}", uuid=volume.uuid, why=str(error))
            return False


def _are_two(first: Path, second: Path) -> bool:
    """Return whether two paths are certainly of two files. It blocks.

    One NFS export by two addresses of its server has two devices, but the same inodes.

    Raises: OSError when one does not exist.
    """
    return first.stat().st_ino != second.stat().st_ino


def _claim_unmade(connection: Connection, host_id: int) -> None:
    known = {job.instance_uuid for job in jobs.pending(connection)}
    for volume in volumes.never_made(connection, host_id):
        if volume.uuid not in known:
            transitions.claim_deletion(connection, volume.id)
