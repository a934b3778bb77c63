# SPDX-License-Identifier: Apache-2.0
"""The ISO in a VM's CD drive: attached and detached, at once when the VM runs, else at its next start.

A row names the ISO before the machine has it, and until the machine has it no more: nobody deletes it, nor
its copy on this host, in between. Both operations can be repeated after a restart of the daemon.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import events, instances, templates
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.state.templates import Template
from systemvm.management.virtual_machines.errors import IsoNotUsableError, MachineStateError
from systemvm.management.vm_locks import PerVmLock


class IsoStorage(Protocol):
    """Has ISOs on this host."""

    async def copy_iso(self, iso_id: int) -> Path: ...


class IsoDrives:
    """The operations on the CD drive of a user's VM, by its id."""

    _log = Logger()

    def __init__(
        self, database: Database, hypervisor: Hypervisor, storage: IsoStorage, machines: PerVmLock[int]
    ) -> None:
        self._database = database
        self._hypervisor = hypervisor
        self._storage = storage
        self._machines = machines

    async def attach(self, vm_id: int, iso_id: int, *, forced: bool = False) -> Instance:
        """Give a VM an ISO; does nothing when it has it. `forced` ejects another one that it has.

        Raises: MachineStateError, PrimaryStorageError, HypervisorError when the ISO cannot be copied or the
        machine did not take it: none is attached then.
        """
        is_copied = False
        while True:
            async with self._machines.acquire(vm_id) as vm:
                check_state(vm)
                if vm.iso_id not in (None, iso_id) and not forced:
                    raise _has_another(vm)
                if is_copied or not self._runs(vm):
                    return await self._attach_held(vm, iso_id, forced=forced)
            await self._storage.copy_iso(iso_id)  # can take long, and the VM can be stopped meanwhile
            is_copied = True

    async def _attach_held(self, vm: Instance, iso_id: int, *, forced: bool) -> Instance:
        """Attach an ISO to a VM whose lock the caller holds."""
        if vm.iso_id not in (None, iso_id):
            await self._take_out(vm, forced=True)
        had_it = vm.iso_id == iso_id
        vm = await self._database.run(_attach, vm.id, iso_id)
        if self._runs(vm):
            try:
                medium = await self._storage.copy_iso(iso_id)
                await self._hypervisor.cd_drive(vm.instance_name).insert(medium, forced=forced)
            except CancelledError:  # the daemon ends, and the next one continues
                raise
            except Exception:
                if not had_it:
                    await self._give_up(vm)
                raise
        return vm

    async def detach(self, vm_id: int, *, forced: bool = False) -> Instance:
        """Take a VM's ISO away; does nothing when it has none.

        Raises: MachineStateError, HypervisorError when the guest uses it and `forced` is not set.
        """
        async with self._machines.acquire(vm_id) as vm:
            if vm.iso_id is None:
                return vm
            check_state(vm)
            return await self._take_out(vm, forced=forced)

    async def _take_out(self, vm: Instance, *, forced: bool) -> Instance:
        if self._runs(vm):
            await self._hypervisor.cd_drive(vm.instance_name).eject(forced=forced)
        return await self._database.run(_detach, vm.id)

    async def _give_up(self, vm: Instance) -> None:
        """Take away an ISO that could not be attached; a machine that does not answer loses it at its end."""
        with suppress(HypervisorError):
            if self._runs(vm):
                await self._hypervisor.cd_drive(vm.instance_name).eject(forced=True)
        await self._database.run(_detach, vm.id)

    def _runs(self, vm: Instance) -> bool:
        status = self._hypervisor.status(vm.instance_name)
        return status is not None and status.state.alive


def check_state(vm: Instance) -> None:
    """Check that a VM is Running or Stopped, with CloudStack's message (TemplateManagerImpl.attachIso).

    Raises: MachineStateError when it is not.
    """
    if vm.removed is not None or vm.state not in (InstanceState.RUNNING, InstanceState.STOPPED):
        raise MachineStateError(
            "Please specify an instance that is either Stopped or Running.",
            f"{vm.name} is {vm.state.value}",
            value=vm.uuid,
        )


def check_usable(connection: Connection, iso: Template, zone_id: int) -> None:
    """Check that an ISO is Ready in a zone.

    Raises: IsoNotUsableError when it is not, or was deleted.
    """
    if iso.removed is not None:
        raise IsoNotUsableError(f"ISO {iso.name} was deleted", "attach another one", parameter="id")
    if not templates.is_in_zone(connection, iso, zone_id):
        raise IsoNotUsableError(
            "ISO is not available in the zone the instance is in.",
            "copy it to that zone with copyIso",
            parameter="id",
        )
    ref = templates.store_ref_of(connection, iso.id, zone_id)
    if ref is None or not ref.is_ready:
        raise IsoNotUsableError(
            f"ISO {iso.name} is not ready", "wait until its download is complete", parameter="id"
        )


def _attach(connection: Connection, vm_id: int, iso_id: int) -> Instance:
    """Record an ISO in one transaction with the check that it is not deleted: a deletion finds its VM."""
    vm, iso = instances.by_id(connection, vm_id), templates.by_id(connection, iso_id)
    if vm.iso_id == iso_id:
        return vm
    check_usable(connection, iso, vm.zone_id)
    attached = instances.update(connection, vm_id, iso_id=iso_id)
    _record(connection, attached, "ISO.ATTACH", f"{iso.name} is attached to {vm.name}")
    return attached


def _detach(connection: Connection, vm_id: int) -> Instance:
    vm = instances.by_id(connection, vm_id)
    if vm.iso_id is None:
        return vm
    iso = templates.by_id(connection, vm.iso_id)
    detached = instances.update(connection, vm_id, iso_id=None)
    _record(connection, detached, "ISO.DETACH", f"{iso.name} is detached from {vm.name}")
    return detached


def _record(connection: Connection, vm: Instance, event: str, text: str) -> None:
    events.record(
        connection,
        event,
        text,
        account_id=vm.account_id,
        domain_id=vm.domain_id,
        zone_id=vm.zone_id,
        resource_type="VirtualMachine",
        resource_uuid=vm.uuid,
    )


def _has_another(vm: Instance) -> MachineStateError:
    return MachineStateError(
        f"{vm.name} has another ISO attached already",
        "detach that first with detachIso, or use forced=true, which ejects it",
        value=vm.uuid,
    )
