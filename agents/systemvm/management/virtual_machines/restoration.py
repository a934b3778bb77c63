# SPDX-License-Identifier: Apache-2.0
"""Makes the root disk of a VM anew, as UserVmManagerImpl.restoreVirtualMachine does.

The new disk has a row from the start, which is removed until its VM has it: whatever ends before that leaves
a file that the sweep of leftovers deletes. One transaction gives it to the VM in place of the disk of before,
so that a VM has exactly one root at any time.

The template's image store can be silent for hours, so its copy is made without any lock, the new disk under
those of the two volumes, and only the swap under the VM's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from attrs import field, frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from systemvm.management.primary.pool_usage import Usages
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.resource_limits import limits
from systemvm.management.state import (
    accounts,
    events,
    instances,
    resource_counts,
    snapshot_policies,
    snapshots,
    storage_pools,
    templates,
    volumes,
)
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.status import InstanceState, VolumeState
from systemvm.management.state.templates import Template
from systemvm.management.state.volumes import Volume
from systemvm.management.virtual_machines import transitions
from systemvm.management.virtual_machines.deployment import check_ready
from systemvm.management.virtual_machines.errors import MachineError, MachineStateError, NotDeployableError
from systemvm.management.virtual_machines.machine_checks import check_exists, check_is_users
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.management.volumes.errors import NoPoolError
from systemvm.management.volumes.pool_choice import check_takes
from systemvm.management.volumes.service import Volumes
from systemvm.service.errors import SystemVmError

#: Measures the pools.
Measure = Callable[[], Awaitable[Usages]]


@frozen
class Restoration:
    """The request of a user; a repetition of it has the same values."""

    vm_id: int
    image_id: int  # the template, or the ISO of a VM that was deployed from one
    root_uuid: str  # of the new disk
    was_running: bool
    sealed_password: bytes | None = field(default=None, repr=False)


class MachineRestoration:
    """Restores VMs. After a kill at any step the same restoration continues."""

    _log = Logger()

    def __init__(self, database: Database, machines: VirtualMachines, volumes: Volumes) -> None:
        self._database = database
        self._machines = machines
        self._volumes = volumes

    async def restore(self, wanted: Restoration, measure: Measure) -> Instance:
        """Replace the root disk of a VM, and start the VM when it ran.

        The new disk is complete before the VM's lock is taken, and the VM is stopped: until then the VM can
        be stopped, started and destroyed. `measure` returns how full the pools are.

        Raises: MachineStateError, NotDeployableError, NoPoolError, ResourceLimitError with the reason when it
        cannot be replaced: the VM has its disk of before then, and runs if it ran.
        """
        try:
            while not await self._database.read(_is_restored, wanted):
                before = await self._database.read(root_of, wanted.vm_id)
                copying = self._copy_template(wanted, before.pool_id)
                await self._machines.unless_destroyed(wanted.vm_id, copying)
                await self._replace(wanted, before, measure)
                await self._volumes.finish_deletion(before)
                await self._machines.delete_variables(before)
        except CancelledError:  # the daemon ends, and the next one continues
            raise
        except Exception:
            try:
                await self._start_again(wanted)
            except SystemVmError as error:  # its row has the reason
                self._log.info(
                    "virtual machine {id} stays stopped: {why}", id=wanted.vm_id, why=error.message
                )
            raise
        return await self._start_again(wanted)

    async def _copy_template(self, wanted: Restoration, pool_id: int | None) -> None:
        """Have the template in a pool, which can take as long as its image store does not answer."""
        async with self._machines.lock.acquire(wanted.vm_id):  # it is not being started or stopped
            image = await self._database.read(_check_possible, wanted)
        if not image.is_iso:
            await self._machines.prepare_template(image.id, pool_id)

    async def _replace(self, wanted: Restoration, before: Volume, measure: Measure) -> None:
        """Give the VM its new disk, unless another restoration has replaced the disk of before meanwhile."""
        async with self._volumes.lock(before.id):
            if (await self._database.read(root_of, wanted.vm_id)).id != before.id:
                return
            new = await self._database.run(_claim, wanted)
            async with self._volumes.lock(new.id):
                try:
                    await self._delete(new)  # what a killed daemon has made counts as used space
                    usages = await measure()
                    async with self._machines.lock.acquire(wanted.vm_id):
                        image = await self._database.read(check, wanted, usages)
                    path = await self._machines.make_root(new, None if image.is_iso else image)
                    await self._swap(wanted, before, new, path, usages)
                except CancelledError:
                    raise
                except Exception:
                    await self._delete(new)
                    raise

    async def _swap(
        self, wanted: Restoration, before: Volume, new: Volume, path: Path, usages: Usages
    ) -> None:
        async with self._machines.lock.acquire(wanted.vm_id) as vm:
            if vm.state is not InstanceState.STOPPED:
                # a snapshot can have begun meanwhile, and no guest is shut down for nothing
                await self._database.read(check, wanted, usages)
                await self._machines.end_held(vm)
            await self._database.run(_set_restored, wanted, before, new, str(path), usages)

    async def _start_again(self, wanted: Restoration) -> Instance:
        """Start a VM that ran, unless somebody has stopped or destroyed it since."""
        vm = await self._database.read(instances.by_id, wanted.vm_id)
        if vm.state is InstanceState.RUNNING or not wanted.was_running:
            return vm
        return await self._machines.start_again(vm.id)

    async def _delete(self, new: Volume) -> None:
        try:
            await self._machines.delete_file(new)
        except (OSError, PrimaryStorageError) as error:
            self._log.info("file of {uuid} is deleted later: {why}", uuid=new.uuid, why=str(error))


def check(connection: Connection, wanted: Restoration, usages: Usages) -> Template:
    """Return the image of a VM's new root disk, when that can be made and its pool has room for it.

    Raises: MachineStateError, MachineError, NotDeployableError, NoPoolError, ResourceLimitError, with
    CloudStack's messages where it has them.
    """
    image = _check_possible(connection, wanted)
    vm = instances.by_id(connection, wanted.vm_id)
    _check_room(connection, vm, root_of(connection, vm.id), image, usages)
    return image


def _check_possible(connection: Connection, wanted: Restoration) -> Template:
    vm = instances.by_id(connection, wanted.vm_id)
    check_is_users(vm)
    check_exists(vm)
    if vm.state not in (InstanceState.RUNNING, InstanceState.STOPPED):
        raise MachineStateError(
            f"Vm {vm.uuid} currently in {vm.state.value} state, restore vm can only execute when VM in"
            " Running or Stopped",
            "start or stop it first",
            value=vm.uuid,
        )
    if vm.state is InstanceState.RUNNING and not wanted.was_running:
        raise MachineStateError(
            f"{vm.name} cannot be restored: it was started meanwhile",
            "restore it again, which stops it",
            value=vm.uuid,
        )
    owner = accounts.account_by_id(connection, vm.account_id)
    if not owner.may_run_machines:
        raise MachineStateError(
            f"The owner of {vm.name} is disabled: {owner.name}",
            "enable the account first with enableAccount",
            value=vm.uuid,
        )
    root = root_of(connection, vm.id)
    running = snapshots.unfinished_of(connection, root.id)
    if running:
        raise MachineStateError(
            f"{vm.name} cannot be restored: snapshot {running[0].name} of its root disk is being taken",
            "wait until it is BackedUp",
            value=vm.uuid,
        )
    image = templates.by_id(connection, wanted.image_id)
    if image.id not in (root.template_id, vm.iso_id):
        ref = templates.store_ref_of(connection, image.id, vm.zone_id)
        if image.removed is None and (ref is None or not ref.is_ready):
            raise NotDeployableError(
                f"Cannot restore the vm as the template {image.uuid} isn't available in the zone",
                f"wait until {image.name} is Ready there, or copy it to that zone",
                parameter="templateid",
            )
        check_ready(image, ref)
    return image


def _check_room(connection: Connection, vm: Instance, root: Volume, image: Template, usages: Usages) -> None:
    size_bytes = _size_of_new(connection, root, image, vm.zone_id)
    more_bytes = size_bytes - resource_counts.bytes_of_volume(connection, root.id)
    if more_bytes > 0:
        limits.check(connection, vm.account_id, {ResourceType.primary_storage: more_bytes})
    if root.pool_id is None:
        return
    pool = storage_pools.by_id(connection, root.pool_id)
    try:  # both disks are there for a time
        check_takes(connection, pool, root.host_id or 0, usages, size_bytes, provisioning=root.provisioning)
    except NoPoolError as error:
        raise NoPoolError(
            f"{vm.name} cannot be restored: {error.message}",
            "make room in the pool, or move the root disk first with migrateVolume",
        ) from error


def _size_of_new(connection: Connection, root: Volume, image: Template, zone_id: int) -> int:
    """Return the size of a new root disk: that of its template, or more if the disk of before was resized."""
    ref = None if image.is_iso else templates.store_ref_of(connection, image.id, zone_id)
    of_template = (ref.virtual_size_bytes if ref else None) or 0
    if root.template_id == image.id and not of_template:  # the template was deleted
        return resource_counts.bytes_of_volume(connection, root.id)
    return max(of_template, root.size_bytes or 0)


def root_of(connection: Connection, vm_id: int) -> Volume:
    """Return the root disk of a VM. Raises: MachineStateError, MachineError when it has none."""
    vm = instances.by_id(connection, vm_id)
    check_exists(vm)
    root = volumes.root_of(connection, vm_id)
    if root is None:
        raise MachineError(f"Can not find root volume for VM {vm.uuid}", "destroy it and deploy another one")
    return root


def _is_restored(connection: Connection, wanted: Restoration) -> bool:
    """Return whether the VM was given the new disk; another restoration can have replaced it since."""
    new = volumes.find(connection, wanted.root_uuid)
    return new is not None and new.path is not None


def _claim(connection: Connection, wanted: Restoration) -> Volume:
    """Return the row of the new disk, which is like the disk of before at this moment."""
    vm, before = instances.by_id(connection, wanted.vm_id), root_of(connection, wanted.vm_id)
    image = templates.by_id(connection, wanted.image_id)
    resized = before.size_bytes is not None
    place = {
        "zone_id": before.zone_id,
        "host_id": before.host_id,
        "pool_id": before.pool_id,
        "provisioning": before.provisioning,
        "size_bytes": _size_of_new(connection, before, image, vm.zone_id) if resized else None,
    }
    claimed = volumes.find(connection, wanted.root_uuid)
    if claimed is not None:  # by a daemon that was killed, and the disk can have been moved or resized since
        return volumes.update(connection, claimed.id, **place)
    at = now()
    return volumes.create(
        connection,
        name=before.name,
        account_id=before.account_id,
        vm_id=None,
        uuid=wanted.root_uuid,
        domain_id=before.domain_id,
        template_id=None if image.is_iso else image.id,
        state=VolumeState.DESTROYED,
        created=at,
        removed=at,
        **place,
    )


def _set_restored(
    connection: Connection, wanted: Restoration, before: Volume, new: Volume, path: str, usages: Usages
) -> Instance:
    """Give a VM its new disk in place of the one of before, which is deleted from now on."""
    check(connection, wanted, usages)
    at = now()
    volumes.update(connection, before.id, state=VolumeState.DESTROYED, vm_id=None, attached=None)
    snapshot_policies.move(connection, before.id, new.id)
    volumes.update(
        connection,
        new.id,
        state=VolumeState.READY,
        path=path,
        vm_id=wanted.vm_id,
        attached=at,
        created=at,
        removed=None,
    )
    vm = instances.by_id(connection, wanted.vm_id)
    image = templates.by_id(connection, wanted.image_id)
    drive = {"iso_id": image.id} if image.is_iso else {}
    restored = instances.update(connection, vm.id, arch=image.arch, template_id=image.id, **drive)
    events.record(
        connection,
        "VM.RESTORE",
        f"{vm.name} is restored from {image.name}",
        account_id=vm.account_id,
        domain_id=vm.domain_id,
        zone_id=vm.zone_id,
        resource_type="VirtualMachine",
        resource_uuid=vm.uuid,
    )
    if wanted.sealed_password is not None:
        transitions.set_password(connection, restored, wanted.sealed_password)
    return restored
