# SPDX-License-Identifier: Apache-2.0
"""Moves a volume to another pool: it copies the disk, changes the row, and deletes the file of before.

A kill leaves the volume where its row says it is. The job is repeated then, and deletes the other file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from twisted.logger import Logger

from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.primary.pools import StorageByPool
from systemvm.management.primary.qemu_img import DiskFormat, PrimaryStorageError
from systemvm.management.state import snapshots
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.status import Provisioning
from systemvm.management.state.volumes import Volume
from systemvm.management.vm_locks import PerVmLock
from systemvm.management.volumes import transitions
from systemvm.management.volumes.errors import NoPoolError, VolumeStateError
from systemvm.management.volumes.service import Volumes


class MovableStorage(Protocol):
    """The part of primary storage that moves volumes."""

    def volume_path(self, volume_uuid: str) -> Path: ...
    async def volume_size_bytes(self, volume_uuid: str) -> int: ...
    async def import_volume(
        self,
        volume_uuid: str,
        source: Path,
        source_format: DiskFormat,
        size_bytes: int | None,
        provisioning: Provisioning = Provisioning.THIN,
    ) -> Path: ...
    async def delete_volume(self, volume_uuid: str) -> None: ...
    async def delete_incomplete(self, volume_uuid: str) -> None: ...


class VolumeMigration:
    """Moves volumes that no machine uses."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        primary: StorageByPool[MovableStorage],
        hypervisor: Hypervisor,
        machines: PerVmLock[int],
        volumes: Volumes,
    ) -> None:
        self._database = database
        self._primary = primary
        self._hypervisor = hypervisor
        self._machines = machines
        self._volumes = volumes

    async def delete_incomplete(self, volume_id: int, target: int | None) -> None:
        """Delete what a killed daemon has written in the pool that a volume is moved to.

        It counts as used, so call it before the pool is measured.
        """
        async with self._volumes.lock(volume_id) as volume:
            if volume.pool_id != target and volume.removed is None:
                await (await self._primary.of(target)).delete_incomplete(volume.uuid)

    async def migrate(self, volume_id: int, source: int | None, target: int | None, usages: Usages) -> Volume:
        """Move a volume from one pool to another; None is the host's own directory.

        Raises: VolumeStateError when its VM runs, a snapshot of it is taken, or it was moved elsewhere since,
        NoPoolError when the pool has no place for it.
        """
        async with self._volumes.lock(volume_id) as volume:
            if volume.pool_id == target and volume.removed is None:
                if source != target:  # an earlier daemon has moved it
                    await self._delete_source(volume, source)
                return volume
            await self._database.read(check_movable, volume)
            if volume.pool_id != source:
                raise VolumeStateError(
                    f"volumeid: {volume.name} is in another storage pool than before",
                    "see listVolumes for its pool, then move it again",
                    parameter="volumeid",
                )
            if volume.vm_id is None:
                return await self._move(volume, target, usages)
            async with self._machines.acquire(volume.vm_id) as vm:
                status = self._hypervisor.status(vm.instance_name)
                if vm.state.is_gone or (status is not None and status.state.alive):
                    raise VolumeStateError(
                        f"volumeid: {vm.name}, the VM of volume {volume.name}, is {vm.state.value}",
                        "stop it first with stopVirtualMachine",
                        parameter="volumeid",
                    )
                return await self._move(volume, target, usages)

    async def _move(self, volume: Volume, target: int | None, usages: Usages) -> Volume:
        before, after = await self._primary.of(volume.pool_id), await self._primary.of(target)
        size_bytes = await before.volume_size_bytes(volume.uuid)
        disk = before.volume_path(volume.uuid)
        path = await after.import_volume(volume.uuid, disk, "qcow2", size_bytes, volume.provisioning)
        try:
            moved = await self._database.run(transitions.set_moved, volume.id, target, str(path), usages)
        except NoPoolError:  # another volume got the place during the copy
            await after.delete_volume(volume.uuid)
            raise
        await self._delete_source(volume, volume.pool_id)
        return moved

    async def _delete_source(self, volume: Volume, source: int | None) -> None:
        try:
            await (await self._primary.of(source)).delete_volume(volume.uuid)
        except (OSError, PrimaryStorageError) as error:
            self._log.warn(
                "file of volume {uuid} stays in the pool that it was moved from: {why}",
                uuid=volume.uuid,
                why=str(error),
            )


def check_movable(connection: Connection, volume: Volume) -> None:
    """Check that a volume has a file that nothing writes to, apart from its VM.

    Raises: VolumeStateError when it does not.
    """
    transitions.check_usable(volume, "volumeid")
    running = snapshots.unfinished_of(connection, volume.id)
    if running:
        raise VolumeStateError(
            f"volumeid: snapshot {running[0].name} of volume {volume.name} is being taken",
            "wait until it is BackedUp",
            parameter="volumeid",
        )
