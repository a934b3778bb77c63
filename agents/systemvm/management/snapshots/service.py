# SPDX-License-Identifier: Apache-2.0
"""The service for snapshots: take, delete, revert to one, and restore one to a new volume.

A snapshot is written to primary storage first, which needs its volume, and copied to secondary storage then,
which does not. Both steps can be repeated after a restart of the daemon; the row's state says which is due.
Snapshots of one volume are taken one after another, so that each can be an increment on the one before. The
volume's own lock is held while it is written only: during the copy the volume can be changed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger

from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.data_disks import ROOT_DISK, disk_name
from systemvm.management.hypervisors.disk_backup import DiskBackup, bitmap_name
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.primary.pools import StorageByPool
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.snapshots import transitions
from systemvm.management.snapshots.errors import (
    SnapshotError,
    SnapshotRequestError,
    SnapshotStateError,
    SnapshotUnreachableError,
)
from systemvm.management.snapshots.files import SnapshotFiles
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import snapshots, volumes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import Provisioning, SnapshotState
from systemvm.management.state.volumes import Volume
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.management.vm_locks import PerVmLock
from systemvm.management.volumes.service import GIB, Volumes
from systemvm.management.volumes.transitions import check_usable

Report = Callable[[int, str], None]


class SnapshotStorage(Protocol):
    """The part of primary storage that serves snapshots; `name` is a snapshot's UUID."""

    async def volume_size_bytes(self, volume_uuid: str) -> int: ...
    def snapshot_path(self, name: str) -> Path: ...
    async def create_snapshot(self, name: str, size_bytes: int) -> Path: ...
    async def complete_snapshot(self, name: str, base: str | None) -> int: ...
    async def copy_volume(self, volume_uuid: str, name: str, size_bytes: int) -> Path: ...
    async def restart_bitmap(self, volume_uuid: str, bitmap: str) -> None: ...
    async def restore_volume(
        self,
        volume_uuid: str,
        chain: list[Path],
        size_bytes: int,
        provisioning: Provisioning = Provisioning.THIN,
    ) -> Path: ...
    async def delete_snapshot(self, name: str) -> None: ...


class VolumeSnapshots:
    """The operations on a snapshot, by its id."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        primary: StorageByPool[SnapshotStorage],
        hypervisor: Hypervisor,
        machines: PerVmLock[int],
        volumes: Volumes,
        files: SnapshotFiles,
        settings: StoreSettings,
    ) -> None:
        self._database = database
        self._primary = primary
        self._hypervisor = hypervisor
        self._machines = machines
        self._volumes = volumes
        self._files = files
        self._settings = settings
        self._turns: dict[int, DeferredLock] = {}  # by the volume's id

    async def create(self, new: NewSnapshot) -> Snapshot:
        """Create the row of a snapshot; `take` takes it."""
        return await self._database.run(self.create_in, new)

    def create_in(self, connection: Connection, new: NewSnapshot) -> Snapshot:
        """Do what `create` does, as a part of a transaction."""
        return transitions.create(connection, new, self._settings)

    async def take(
        self, snapshot_id: int, report: Report = lambda percent, text: None, *, quiesce: bool = False
    ) -> Snapshot:
        """Take a snapshot and copy it to secondary storage; one that fails is in the state Error.

        With `quiesce` the guest agent of a VM that runs holds its file systems still for a moment.
        """
        snapshot = await self._database.read(snapshots.by_id, snapshot_id)
        async with self._turn(snapshot.volume_id):
            snapshot = await self._database.read(snapshots.by_id, snapshot_id)
            if snapshot.state.has_ended:
                await self._delete_on_primary(snapshot)  # a daemon that was killed has not
                return snapshot
            try:
                if snapshot.state is not SnapshotState.BACKING_UP:
                    report(5, "Writing it to primary storage")
                    is_whole = not await self._can_follow_last(snapshot.volume_id)
                    async with self._volumes.lock(snapshot.volume_id) as volume:
                        snapshot = await self._write(snapshot, volume, quiesce=quiesce, is_whole=is_whole)
                storage = await self._storage_of(snapshot)
                path = storage.snapshot_path(snapshot.uuid)
                moved_bytes = await self._files.upload(
                    snapshot,
                    path,
                    lambda percent: report(50 + percent // 2, "Copying it to secondary storage"),
                )
                snapshot = await self._database.run(transitions.set_backed_up, snapshot, moved_bytes)
            except CancelledError:  # the daemon ends, and the next one continues
                raise
            except Exception as error:
                message = str(getattr(error, "message", "") or error or type(error).__name__)
                hint = str(getattr(error, "hint", ""))
                await self._database.run(transitions.set_failed, snapshot, message, hint)
                await self._delete_on_primary(snapshot)
                raise
            await self._delete_on_primary(snapshot)
            async with self._volumes.lock(snapshot.volume_id) as volume:
                await self._forget_earlier(volume, snapshot)
            return snapshot

    async def delete(self, snapshot_id: int, *copy_ids: int) -> None:
        """Delete a snapshot, and its copies with it, or none of them.

        The file of one that others are increments on is deleted with the last of them.

        Raises: SnapshotStateError when one is being taken or read, SnapshotError when no SSVM can delete one
            of their files now: it is deleted later.
        """
        snapshot = await self._database.read(snapshots.by_id, snapshot_id)

        def hide(connection: Connection) -> None:
            for each in (snapshot_id, *copy_ids):
                transitions.hide(connection, each)

        async with self._volumes.lock(snapshot.volume_id):
            await self._database.run(hide)
            failed = await self._delete_files(snapshot.volume_id)
        for each in (snapshot_id, *copy_ids):  # another one is not what the caller asks for
            if each in failed:
                raise failed[each]

    async def delete_of_account(self, account_id: int) -> None:
        """Delete an account's snapshots; their files are deleted now, or when an SSVM can."""
        for snapshot in await self._database.read(snapshots.of_account, account_id):
            try:
                await self.delete(snapshot.id)
            except SnapshotStateError:
                raise
            except SnapshotError as error:
                self._log.warn(
                    "file of {uuid} is deleted later: {why}", uuid=snapshot.uuid, why=error.message
                )

    def start_deletions(self) -> None:
        """Start `finish_deletions`: a store that hangs, or a zone without an SSVM, delays no caller."""
        Deferred.fromCoroutine(self.finish_deletions()).addErrback(
            lambda failure: self._log.failure("cannot delete snapshots", failure=failure)
        )

    async def finish_deletions(self) -> None:
        """Delete the files that could not be deleted before."""
        for volume_id in {each.volume_id for each in await self._database.read(snapshots.to_delete)}:
            try:
                async with self._volumes.lock(volume_id):
                    await self._delete_files(volume_id)
            except Exception:
                self._log.failure("cannot delete snapshots of volume {id}", id=volume_id)

    async def revert(self, snapshot_id: int) -> Snapshot:
        """Make a snapshot the content of its volume again, whose VM must be stopped.

        Raises: SnapshotStateError when the VM runs or the volume was deleted.
        """
        snapshot = await self._database.read(snapshots.by_id, snapshot_id)
        if snapshot.copy_of is not None:
            raise SnapshotStateError(
                f"id: {snapshot.name} is a copy in another zone than its volume",
                "revert to the snapshot that it was copied from",
                parameter="id",
            )
        async with self._volumes.lock(snapshot.volume_id) as volume:
            transitions.check_stored(snapshot)
            check_usable(volume)
            if volume.vm_id is None:
                return await self._revert(snapshot, volume)
            async with self._machines.acquire(volume.vm_id) as vm:
                if vm.state.is_gone or self._runs(vm):
                    raise SnapshotStateError(
                        f"id: {vm.name}, the VM of volume {volume.name}, is {vm.state.value}",
                        "stop it first with stopVirtualMachine",
                        parameter="id",
                    )
                return await self._revert(snapshot, volume)

    async def restore(self, snapshot_id: int, volume_id: int) -> Volume:
        """Make the file of a new volume from a snapshot."""

        async def write(volume: Volume) -> Path:
            snapshot = await self._database.read(snapshots.by_id, snapshot_id)
            async with self._volumes.lock(snapshot.volume_id):
                transitions.check_stored(await self._database.read(snapshots.by_id, snapshot_id))
                chain = await self._files.chain(snapshot)
                size_bytes = volume.size_bytes or snapshot.size_bytes or 0
                storage = await self._primary.of(volume.pool_id)
                return await storage.restore_volume(volume.uuid, chain, size_bytes, volume.provisioning)

        return await self._volumes.make(volume_id, write)

    async def size_for(self, snapshot: Snapshot, wanted_bytes: int | None) -> int:
        """Return the size of a volume that is made from a snapshot.

        Raises: SnapshotRequestError when it would be smaller than the snapshot.
        """
        transitions.check_stored(snapshot)
        least = snapshot.size_bytes or 0
        if wanted_bytes is not None and wanted_bytes < least:
            raise SnapshotRequestError(
                f"size: {wanted_bytes // GIB} GiB is less than the {least / GIB:.4g} GiB of {snapshot.name}",
                f"omit it, or choose at least {-(-least // GIB)}",
                parameter="size",
            )
        return wanted_bytes or least

    @asynccontextmanager
    async def _turn(self, volume_id: int) -> AsyncIterator[None]:
        """Wait until no other snapshot of a volume is being taken."""
        lock = self._turns.setdefault(volume_id, DeferredLock())
        async with lock:
            try:
                yield
            finally:
                if not lock.waiting:
                    del self._turns[volume_id]

    async def _can_follow_last(self, volume_id: int) -> bool:
        """Return whether the files of a volume's last snapshot are there: others can write to a store, too.

        It is called without the locks of volume and VM, because a store that hangs can delay it.
        """
        last = await self._database.read(snapshots.last_of, volume_id)
        if last is None:
            return True
        try:
            await self._files.chain(last)
        except SnapshotError as error:
            self._log.warn(
                "the next snapshot of volume {id} is whole: {why}", id=volume_id, why=error.message
            )
            return False
        return True

    # --- steps, under the volume's lock

    async def _write(self, snapshot: Snapshot, volume: Volume, *, quiesce: bool, is_whole: bool) -> Snapshot:
        """Write what the volume contains now to primary storage; a stopped VM cannot start meanwhile."""
        check_usable(volume, "volumeid")
        snapshot = await self._database.run(snapshots.update, snapshot.id, state=SnapshotState.CREATING)
        storage = await self._primary.of(volume.pool_id)
        size_bytes = await storage.volume_size_bytes(volume.uuid)
        if volume.vm_id is None:
            return await self._copy(snapshot, volume, size_bytes)
        async with self._machines.acquire(volume.vm_id) as vm:
            if not self._runs(vm):
                return await self._copy(snapshot, volume, size_bytes)
        base = None
        if not is_whole:
            base = await self._database.read(transitions.base_for, snapshot, size_bytes)
        path = await storage.create_snapshot(snapshot.uuid, size_bytes)
        since = base.uuid if base else None
        backup = DiskBackup(snapshot.uuid, _disk_of(volume), path, since, quiesce)
        if await self._hypervisor.disks(vm.instance_name).back_up(backup):
            base = None
        moved = await storage.complete_snapshot(snapshot.uuid, base.uuid if base else None)
        return await self._database.run(transitions.set_backing_up, snapshot, base, size_bytes, moved)

    async def _copy(self, snapshot: Snapshot, volume: Volume, size_bytes: int) -> Snapshot:
        """Copy a disk that no machine uses."""
        storage = await self._primary.of(volume.pool_id)
        await storage.copy_volume(volume.uuid, snapshot.uuid, size_bytes)
        # the next one is an increment on this one
        await storage.restart_bitmap(volume.uuid, bitmap_name(snapshot.uuid))
        moved = await storage.complete_snapshot(snapshot.uuid, None)
        return await self._database.run(transitions.set_backing_up, snapshot, None, size_bytes, moved)

    async def _forget_earlier(self, volume: Volume, snapshot: Snapshot) -> None:
        if volume.vm_id is None:
            return
        async with self._machines.acquire(volume.vm_id) as vm:
            if self._runs(vm):
                try:
                    disks = self._hypervisor.disks(vm.instance_name)
                    await disks.forget_changes(_disk_of(volume), snapshot.uuid)
                except HypervisorError as error:  # the next snapshot does it
                    self._log.warn("{name}: {why}", name=vm.instance_name, why=error.message)

    async def _revert(self, snapshot: Snapshot, volume: Volume) -> Snapshot:
        storage = await self._primary.of(volume.pool_id)
        chain = await self._files.chain(snapshot)
        size_bytes = snapshot.size_bytes or 0
        await storage.restore_volume(volume.uuid, chain, size_bytes, volume.provisioning)
        await self._database.run(transitions.set_reverted, snapshot, volume)
        return snapshot

    async def _delete_files(self, volume_id: int) -> dict[int, SnapshotError]:
        """Delete every file that nothing needs, an increment before what it is an increment on.

        Return why some cannot be deleted now, by their snapshots' ids: all others are deleted nevertheless.
        """
        failed: dict[int, SnapshotError] = {}
        # by the zone's id: each further call there would wait for an SSVM, too
        unreachable: dict[int, SnapshotUnreachableError] = {}
        while due := [
            each for each in await self._database.run(_files_to_delete, volume_id) if each.id not in failed
        ]:
            snapshot = due[0]
            await self._delete_on_primary(snapshot)
            try:
                if (known := unreachable.get(snapshot.zone_id)) is not None:
                    raise known
                await self._files.delete(snapshot)
            except SnapshotError as error:
                if isinstance(error, SnapshotUnreachableError):
                    unreachable[snapshot.zone_id] = error
                failed[snapshot.id] = error
                self._log.warn(
                    "file of {uuid} is deleted later: {why}", uuid=snapshot.uuid, why=error.message
                )
            else:
                await self._database.run(snapshots.set_file_deleted, snapshot)
        return failed

    async def _storage_of(self, snapshot: Snapshot) -> SnapshotStorage:
        """Return the storage of a snapshot's volume, which is not moved while the snapshot is taken."""
        volume = await self._database.read(volumes.by_id, snapshot.volume_id)
        return await self._primary.of(volume.pool_id)

    async def _delete_on_primary(self, snapshot: Snapshot) -> None:
        """Delete what a snapshot left on primary storage; a pool that cannot be used now keeps it.

        `Leftovers` deletes it then.
        """
        try:
            storage = await self._storage_of(snapshot)
            await storage.delete_snapshot(snapshot.uuid)
        except (OSError, PrimaryStorageError) as error:
            self._log.warn("file of {uuid} stays: {why}", uuid=snapshot.uuid, why=str(error))

    def _runs(self, vm: Instance) -> bool:
        status = self._hypervisor.status(vm.instance_name)
        return status is not None and status.state.alive


def _files_to_delete(connection: Connection, volume_id: int) -> list[Snapshot]:
    """Return the snapshots whose file is to be deleted; files on a store that was removed stay there."""
    snapshots.forget_removed_stores(connection, volume_id)
    return snapshots.to_delete(connection, volume_id)


def _disk_of(volume: Volume) -> str:
    return ROOT_DISK if volume.type == volumes.ROOT else disk_name(volume.uuid)
