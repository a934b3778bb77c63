# SPDX-License-Identifier: Apache-2.0
"""The service for users' VMs: deploy, start, stop, destroy, recover and expunge, one at a time for each VM.

Every operation can be repeated after a restart of the daemon in its middle: rows and hypervisor show which
steps are done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.config import ExpungeConfig
from systemvm.management.hypervisors.base import DomainStatus, ExitReason, Hypervisor
from systemvm.management.hypervisors.shutdown import stop_machine
from systemvm.management.jobs.runner import Begins, at_once
from systemvm.management.pki.seal import Seal
from systemvm.management.state import instances
from systemvm.management.state.columns import now
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.offerings import ServiceOffering
from systemvm.management.state.status import InstanceState
from systemvm.management.state.templates import Template
from systemvm.management.state.volumes import Volume
from systemvm.management.virtual_machines import scaling, transitions
from systemvm.management.virtual_machines.deployment import Deployment, deploy
from systemvm.management.virtual_machines.errors import MachineStateError
from systemvm.management.virtual_machines.exit_reasons import START_INTERRUPTED, explain
from systemvm.management.virtual_machines.interruptions import Interruptions
from systemvm.management.virtual_machines.iso_drive import IsoDrives
from systemvm.management.virtual_machines.machine import UserVmBuilder
from systemvm.management.virtual_machines.machine_checks import check_exists, check_is_users
from systemvm.management.virtual_machines.starts import MachineNetworks, MachineStarts, stopped_meanwhile
from systemvm.management.vm_locks import PerVmLock
from systemvm.service.slowness import TimeoutScale, unscaled
from systemvm.wire.vm_name import VmName

#: The time for a guest to power off after its power button was pressed, before the timeout scale.
SHUTDOWN_S = 60.0


class VirtualMachines:
    """The operations on a user's VM, by its id."""

    log = Logger()

    def __init__(
        self,
        database: Database,
        hypervisor: Hypervisor,
        builder: UserVmBuilder,
        seal: Seal,
        *,
        host_id: int,
        timeout_scale: TimeoutScale = unscaled,
        expunge: ExpungeConfig | None = None,
        end_consoles: Callable[[int], Awaitable[None]],
        move_consoles: Callable[[int], Awaitable[None]],
        networks: MachineNetworks,
    ) -> None:
        self._database = database
        self._hypervisor = hypervisor
        self._builder = builder
        self._host_id = host_id
        self._timeout_scale = timeout_scale
        self._end_consoles = end_consoles
        self._networks = networks
        self._expunge_rules = expunge or ExpungeConfig()  # of the daemon's file
        self._lock = PerVmLock(database, instances.by_id, check_is_users)
        #: Held by whatever changes a VM or its disks.
        self.lock = self._lock
        self._starts = MachineStarts(
            database,
            hypervisor,
            builder,
            seal,
            self._lock,
            host_id=host_id,
            move_consoles=move_consoles,
            networks=networks,
        )
        self._destructions = Interruptions()
        #: Waits for work that is for a VM.
        self.unless_destroyed = self._destructions.unless_interrupted
        self.iso_drives = IsoDrives(database, hypervisor, builder, self._lock)

    def subscribe(self) -> None:
        """Record the ends of machines."""
        self._hypervisor.on_exit(self._exited)

    async def deploy(self, deployment: Deployment) -> Instance:
        """Create the rows of a VM; `start` makes its disk and boots it."""
        return await self._database.run(deploy, deployment)

    async def copy_template(self, template_id: int) -> None:
        """Copy a template to primary storage for VMs whose disk does not exist yet."""
        await self._builder.copy_template(template_id)

    async def prepare_template(self, template_id: int, pool_id: int | None) -> None:
        """Copy a template to a storage pool; None is the host's own directory."""
        await self._starts.prepare_template(template_id, pool_id)

    async def clone_template(self, template_id: int, volume_uuid: str, pool_id: int | None) -> Path:
        """Create the disk of a data volume in a pool, as a clone of a template or of an uploaded image."""
        return await self._builder.clone_template(template_id, volume_uuid, pool_id)

    async def make_root(self, volume: Volume, template: Template | None) -> Path:
        """Create the file of a root disk that no VM has yet, of a template or empty."""
        return await self._builder.make_root(volume, template)

    async def delete_file(self, volume: Volume) -> None:
        """Delete the file of a root disk that no VM has."""
        await self._builder.delete_file(volume)

    async def delete_variables(self, volume: Volume) -> None:
        """Delete the UEFI variables of a root disk that no VM has any more."""
        await self._builder.delete_variables(volume)

    async def start(self, vm_id: int) -> Instance:
        """Boot a VM with a fresh VNC password; does nothing when it runs already.

        Raises: MachineStateError, also when it is stopped or destroyed meanwhile.
        """
        return await self._starts.start(vm_id)

    async def start_again(self, vm_id: int) -> Instance:
        """Start a VM that was stopped for a time, unless somebody has stopped or destroyed it since."""
        return await self._starts.start(vm_id, only_wanted=True)

    async def stop(self, vm_id: int, *, forced: bool = False, wanted: bool = False) -> Instance:
        """Press the power button, or end the VM at once when `forced`; does nothing when it is Stopped.

        `wanted`: its owner still wants it to run.
        """
        async with self._lock.acquire(vm_id) as vm:
            check_exists(vm)
            await self._end_process(vm, forced=forced, wanted=wanted)
            self._starts.interrupt(vm.id, stopped_meanwhile(vm))
            return await self._database.run(transitions.set_stopped, vm.id, None, wanted=wanted)

    async def reboot(self, vm_id: int, *, forced: bool = False) -> Instance:
        """Stop and start a running VM.

        Raises: MachineStateError when it does not run.
        """
        async with self._lock.acquire(vm_id) as vm:
            check_exists(vm)
            # wanted: a daemon that was killed in the middle of a reboot has stopped it
            was_stopped = vm.state is InstanceState.STOPPED and vm.wanted
            if vm.state is not InstanceState.RUNNING and not was_stopped:
                raise MachineStateError(
                    f"{vm.name} is {vm.state.value}",
                    "start it instead: only a Running VM can be rebooted",
                    value=vm.uuid,
                )
            await self._end_process(vm, forced=forced, wanted=True)
            await self._database.run(transitions.set_stopped, vm.id, None, wanted=True)
        return await self.start_again(vm_id)

    async def scale(self, vm_id: int, offering: ServiceOffering) -> Instance:
        """Give a Stopped VM the size of another offering; does nothing when it has it.

        Raises: MachineStateError when it is not Stopped, NotScalableError when its root disk is not where the
        offering wants it, ResourceLimitError when its account would have too much.
        """
        async with self._lock.acquire(vm_id) as vm:
            check_exists(vm)
            return await self._database.run(scaling.scale, vm.id, offering)

    async def end_held(self, vm: Instance) -> Instance:
        """Stop a VM whose lock the caller holds, for a time: its owner still wants it to run."""
        await self._end_process(vm, forced=False, wanted=True)
        return await self._database.run(transitions.set_stopped, vm.id, None, wanted=True)

    async def reset_password(self, vm_id: int, sealed: bytes, begins: Begins = at_once) -> Instance:
        """Give a Stopped VM a password, which its guest takes at its next start.

        Raises: MachineStateError when it is not Stopped.
        """
        async with self._lock.acquire(vm_id) as vm:
            check_exists(vm)
            await self._database.run(transitions.reset_password, vm, sealed, begins)
            return vm

    async def destroy(self, vm_id: int, *, expunge: bool = False) -> Instance:
        """End a VM. Its disk stays for `expunge.delay`, unless `expunge`; does nothing when it is gone."""
        async with self._lock.acquire(vm_id) as vm:
            if vm.removed is not None:
                return vm
            if not vm.state.is_gone:
                await self._end_process(vm, forced=True)
                vm = await self._database.run(transitions.set_destroyed, vm, self._expunge_rules)
                error = MachineStateError(
                    f"{vm.name} was destroyed meanwhile", "recover it, and try again", value=vm.uuid
                )
                for waits in (self._starts, self._destructions):
                    waits.interrupt(vm.id, error)
            await self._end_consoles(vm.id)
            if not expunge:
                return vm
            await self._expunge(vm)
        return await self._expunged(vm_id)

    async def recover(self, vm_id: int) -> Instance:
        """Make a Destroyed VM Stopped again.

        Raises: MachineStateError when it is not Destroyed.
        """
        async with self._lock.acquire(vm_id) as vm:
            recovered = await self._database.run(transitions.set_recovered, vm)
            if recovered is None:
                raise MachineStateError(
                    "vm with specified id is not in the right state",
                    f"{vm.name} is {vm.state.value}; only a Destroyed one can be recovered",
                    value=vm.uuid,
                )
            return recovered

    async def expunge(self, vm_id: int) -> Instance:
        """Delete the disk of a Destroyed VM now; does nothing when it is gone.

        Raises: MachineStateError when it is neither Destroyed nor gone.
        """
        async with self._lock.acquire(vm_id) as vm:
            if vm.removed is not None:
                return vm
            if not vm.state.is_gone:
                raise MachineStateError(
                    "Please destroy vm with specified vmId before expunge",
                    f"{vm.name} is {vm.state.value}",
                    value=vm.uuid,
                )
            await self._expunge(vm)
        return await self._expunged(vm_id)

    async def expunge_if_due(self, vm_id: int) -> bool:
        """Expunge for the reaper; return False when it was recovered or expunged since it was listed."""
        async with self._lock.acquire(vm_id) as vm:
            is_due = vm.expunge_at is not None and vm.expunge_at <= now()
            if vm.removed is not None or not vm.state.is_gone or not is_due:
                return False
            await self._expunge(vm)
        await self._expunged(vm_id)
        return True

    async def adopt(self, machines: Mapping[str, DomainStatus]) -> None:
        """Bring the rows up to date with the machines that a new daemon found, before any job resumes.

        What the last daemon was starting or stopping is Running or Stopped then, as if nobody had begun.
        """
        by_name = {VmName(name): status for name, status in machines.items()}
        for vm in await self._database.read(instances.list_user):
            if vm.host_id not in (None, self._host_id):
                continue
            if vm.state.is_gone:
                continue  # its process ended before its row changed
            status = by_name.get(VmName(vm.instance_name))
            if status is not None and status.state.alive:
                await self._database.run(transitions.set_running, vm, status)
                await self._starts.record_early_end(vm)
                self.log.info("adopted {name}", name=vm.instance_name)
            elif vm.state is InstanceState.STARTING:
                await self._database.run(transitions.set_not_started, vm.id, START_INTERRUPTED)
            elif vm.state.has_process:
                why = explain(status.exit_reason if status else None)
                await self._database.run(transitions.set_stopped, vm.id, why)

    # --- steps, under the VM's lock

    async def _expunge(self, vm: Instance) -> None:
        """Expunge a VM: it cannot be recovered after the first step, and a kill between two steps leaves
        it due.
        """
        await self._database.run(transitions.set_expunging, vm)
        await self._builder.delete_disk(vm)
        await self._database.run(transitions.set_expunged, vm)
        await self._networks.update()

    async def _expunged(self, vm_id: int) -> Instance:
        self._lock.forget(vm_id)
        return await self._database.read(instances.by_id, vm_id)

    async def _end_process(self, vm: Instance, *, forced: bool, wanted: bool = False) -> None:
        status = self._hypervisor.status(vm.instance_name)
        if status is None or not status.state.alive:
            return
        await stop_machine(
            self._database,
            self._hypervisor,
            vm,
            forced=forced,
            timeout_s=SHUTDOWN_S * self._timeout_scale(),
            wanted=wanted,
        )

    # --- events of the hypervisor

    def _exited(self, name: str, reason: ExitReason) -> None:
        noted = Deferred.fromCoroutine(self._database.run(transitions.record_exit, name, reason))
        noted.addErrback(
            lambda failure: self.log.failure("cannot record the end of {name}", failure, name=name)
        )
