# SPDX-License-Identifier: Apache-2.0
"""The service for volumes: create, attach, detach, resize and delete, one at a time for each volume.

Every operation can be repeated after a restart of the daemon in its middle: a row changes before what it
permits is done, and after what it records was done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import CancelledError, DeferredLock
from twisted.logger import Logger

from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.data_disks import ROOT_DISK, DataDisk, disk_name
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.primary.pools import StorageByPool
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import volumes
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import Provisioning, VolumeState
from systemvm.management.state.volumes import Volume
from systemvm.management.virtual_machines.errors import MachineStateError
from systemvm.management.vm_locks import PerVmLock
from systemvm.management.volumes import transitions
from systemvm.management.volumes.errors import VolumeRequestError, VolumeStateError
from systemvm.management.volumes.transitions import NewVolume

GIB = 1 << 30
#: Measures the pool with this number.
UsageOf = Callable[[int | None], Awaitable[Usages]]


class VolumeStorage(Protocol):
    """The part of primary storage that serves volumes."""

    def volume_path(self, volume_uuid: str) -> Path: ...
    async def create_empty(
        self, volume_uuid: str, size_bytes: int, provisioning: Provisioning = Provisioning.THIN
    ) -> Path: ...
    async def volume_size_bytes(self, volume_uuid: str) -> int: ...
    async def resize_volume(self, volume_uuid: str, size_bytes: int) -> None: ...
    async def delete_volume(self, volume_uuid: str) -> None: ...


class Volumes:
    """The operations on a volume, by its id."""

    log = Logger()

    def __init__(
        self,
        database: Database,
        primary: StorageByPool[VolumeStorage],
        hypervisor: Hypervisor,
        machines: PerVmLock[int],
    ) -> None:
        self._database = database
        self._primary = primary
        self._hypervisor = hypervisor
        self._machines = machines
        self._locks: dict[int, DeferredLock] = {}

    async def create(self, new: NewVolume) -> Volume:
        """Create the row of a volume; `make` creates its file."""
        return await self._database.run(transitions.create, new)

    async def make(self, volume_id: int, write: Callable[[Volume], Awaitable[Path]] | None = None) -> Volume:
        """Create the file of a new volume, empty or by `write`; when that fails the volume is removed."""
        async with self.lock(volume_id) as volume:
            if volume.state is VolumeState.READY or volume.removed is not None:
                return volume
            try:
                path = await (write or self._write_empty)(volume)
            except CancelledError:  # the daemon ends, and the next one continues
                raise
            except Exception:
                await self._discard(volume)
                raise
            return await self._database.run(transitions.set_ready, volume.id, str(path))

    async def attach(self, volume_id: int, vm_id: int, device_id: int | None = None) -> Volume:
        """Give a volume to a VM, at once when it runs; does nothing when the VM has it.

        Raises: VolumeError, HypervisorError when the machine did not take it: the volume is detached then,
            unless the machine has it nevertheless, or cannot say whether it kept one that it had.
        """
        async with self.lock(volume_id), self._machines.acquire(vm_id) as vm:
            if vm.removed is not None or vm.state.is_gone:
                raise VolumeStateError(
                    f"virtualmachineid: {vm.name} is {vm.state.value}",
                    "choose a VM that is not destroyed",
                    parameter="virtualmachineid",
                )
            before = await self._database.read(volumes.by_id, volume_id)
            volume = await self._database.run(transitions.attach, volume_id, vm, device_id)
            if self._runs(vm):
                try:
                    await self._hypervisor.disks(vm.instance_name).attach(await self._disk(volume))
                except CancelledError:  # the daemon ends, and the next one continues
                    raise
                except Exception:
                    if not await self._has(vm, volume, otherwise=before.vm_id == vm.id):
                        await self._database.run(transitions.detach, volume.id)
                    raise
            return volume

    async def _has(self, vm: Instance, volume: Volume, *, otherwise: bool) -> bool:
        """Return whether a machine has a volume; `otherwise` when it cannot be asked."""
        try:
            return await self._hypervisor.disks(vm.instance_name).has(volume.uuid)
        except HypervisorError:
            return otherwise

    async def detach(self, volume_id: int) -> Volume:
        """Take a data volume from its VM, at once when that runs; does nothing when no VM has it.

        Raises: VolumeStateError for a root disk, HypervisorError when the machine keeps it.
        """
        async with self.lock(volume_id) as volume:
            if volume.type == volumes.ROOT:
                raise VolumeStateError(
                    f"id: {volume.name} is the root disk of a VM",
                    "choose a volume of type DATADISK",
                    parameter="id",
                )
            if volume.vm_id is None:
                return volume
            async with self._machines.acquire(volume.vm_id) as vm:
                if self._runs(vm):
                    await self._hypervisor.disks(vm.instance_name).detach(volume.uuid)
                return await self._database.run(transitions.detach, volume.id)

    async def resize(self, volume_id: int, size_bytes: int, usage_of: UsageOf) -> Volume:
        """Enlarge a volume; its VM sees the new size at once.

        Its row has the new size first. After a kill in between the job is repeated, which finds the limit
        kept and the disk too small.

        Raises: VolumeRequestError when it would become smaller, ResourceLimitError when its owner, or a
        domain above it, would have too much, NoPoolError when its pool has no space for it.
        """
        async with self.lock(volume_id) as volume:
            transitions.check_usable(volume)
            storage = await self._primary.of(volume.pool_id)
            now_bytes = await storage.volume_size_bytes(volume.uuid)
            if size_bytes < now_bytes:
                raise VolumeRequestError(
                    f"size: {size_bytes // GIB} GiB is less than the {now_bytes / GIB:.4g} GiB of"
                    f" {volume.name}",
                    f"choose at least {-(-now_bytes // GIB)}: a volume cannot become smaller",
                    parameter="size",
                )
            usages = await usage_of(volume.pool_id)
            await self._database.run(transitions.claim_size, volume.id, size_bytes, usages)
            try:
                await self._grow(volume, storage, size_bytes)
            except CancelledError:  # the daemon ends, and the next one continues
                raise
            except Exception:
                await self._database.run(volumes.update, volume.id, size_bytes=now_bytes)
                raise
            return await self._database.run(transitions.set_size, volume.id, size_bytes)

    async def _grow(self, volume: Volume, storage: VolumeStorage, size_bytes: int) -> None:
        if volume.vm_id is None:
            await storage.resize_volume(volume.uuid, size_bytes)
            return
        async with self._machines.acquire(volume.vm_id) as vm:
            if self._runs(vm):
                name = ROOT_DISK if volume.type == volumes.ROOT else disk_name(volume.uuid)
                await self._hypervisor.disks(vm.instance_name).resize(name, size_bytes)
            else:
                await storage.resize_volume(volume.uuid, size_bytes)

    async def delete(self, volume_id: int) -> None:
        """Delete a data volume that no VM has; does nothing when it is deleted."""
        async with self.lock(volume_id) as volume:
            if volume.removed is None:
                await self._delete(await self._database.run(transitions.claim_deletion, volume_id))
        self._locks.pop(volume_id, None)

    async def finish_deletions(self) -> None:
        """Delete what a killed daemon, or a pool that could not be used, has left half deleted."""
        for volume in await self._database.read(volumes.half_deleted):
            await self.finish_deletion(volume)

    async def finish_deletion(self, volume: Volume) -> None:
        """Delete what one volume that is being deleted still has; a pool that fails has it deleted later."""
        try:
            async with self.lock(volume.id) as current:
                # once more: it was read before its lock was free
                if current.removed is None and current.state is VolumeState.DESTROYED:
                    await self._delete(current)
        except (OSError, PrimaryStorageError) as error:
            self.log.info("volume {name} is deleted later: {why}", name=volume.name, why=str(error))
        except Exception:
            self.log.failure("cannot delete volume {uuid}", uuid=volume.uuid)

    @asynccontextmanager
    async def lock(self, volume_id: int) -> AsyncIterator[Volume]:
        """Hold the lock of a volume and yield its row. A VM's lock is taken after it, never before."""
        async with self._locks.setdefault(volume_id, DeferredLock()):
            yield await self._database.read(volumes.by_id, volume_id)

    async def _write_empty(self, volume: Volume) -> Path:
        storage = await self._primary.of(volume.pool_id)
        return await storage.create_empty(volume.uuid, volume.size_bytes or 0, volume.provisioning)

    async def _discard(self, volume: Volume) -> None:
        """Delete a volume that could not be made; when its pool fails, `finish_deletions` does it."""
        await self._database.run(transitions.claim_deletion, volume.id)
        try:
            await self._delete(volume)
        except (OSError, PrimaryStorageError) as error:
            self.log.info("volume {name} is deleted later: {why}", name=volume.name, why=str(error))

    async def _delete(self, volume: Volume) -> None:
        storage = await self._primary.of(volume.pool_id)
        await storage.delete_volume(volume.uuid)
        await self._database.run(transitions.set_deleted, volume)

    def _runs(self, vm: Instance) -> bool:
        status = self._hypervisor.status(vm.instance_name)
        return status is not None and status.state.alive

    async def _disk(self, volume: Volume) -> DataDisk:
        if volume.device_id is None:
            raise MachineStateError(
                f"volume {volume.name} has no device number", "detach and attach it again"
            )
        storage = await self._primary.of(volume.pool_id)
        return DataDisk(volume.uuid, storage.volume_path(volume.uuid), volume.device_id)
