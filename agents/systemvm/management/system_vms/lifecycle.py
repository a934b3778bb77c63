# SPDX-License-Identifier: Apache-2.0
"""The operations on system VMs: one at a time for each VM, visible in the state of its row."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Protocol

from attrs import evolve
from twisted.logger import Logger

from systemvm.host.zone import TrafficType
from systemvm.management.control.agent import AgentStatus
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.shutdown import stop_machine
from systemvm.management.network_helper import NetworkError
from systemvm.management.pki.seal import Seal
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import console_revocations, events, instances, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AgentState, InstanceState, InstanceType
from systemvm.management.system_vms.boot_arguments import ROLES, BootFacts
from systemvm.management.system_vms.machine import SystemVmBuilder
from systemvm.management.system_vms.patching import AgentPatching, PatchResult
from systemvm.management.vm_locks import PerVmLock
from systemvm.service import host_errors
from systemvm.service.slowness import TimeoutScale, unscaled
from systemvm.wire.vm_name import VmName

STARTABLE = (InstanceState.STOPPED, InstanceState.ERROR)

#: The time for a guest to power off, before the timeout scale.
POWER_OFF_S = 30.0


class ConsoleFirewall(Protocol):
    """The part of the network driver that opens VNC servers to CPVMs."""

    async def admit_consoles(self, addresses: set[IPv4Address]) -> None: ...


class SystemVmLifecycle:
    """The operations on a system VM, by its UUID."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        hypervisor: Hypervisor,
        builder: SystemVmBuilder,
        directory: AgentDirectory,
        firewall: ConsoleFirewall,
        boot_facts: Callable[[Instance], BootFacts],
        patching: AgentPatching,
        seal: Seal,
        *,
        host_id: int,
        timeout_scale: TimeoutScale = unscaled,
    ) -> None:
        self._database = database
        self._hypervisor = hypervisor
        self._builder = builder
        self._directory = directory
        self._firewall = firewall
        self._boot_facts = boot_facts
        self._patching = patching
        self._seal = seal
        self._host_id = host_id
        self._timeout_scale = timeout_scale
        self._lock = PerVmLock(database, instances.by_uuid, _check_is_system_vm)
        self._destroyed: list[Callable[[], None]] = []

    def on_destroyed(self, callback: Callable[[], None]) -> None:
        """Call `callback()` whenever a system VM was destroyed, so that its zone needs another one."""
        self._destroyed.append(callback)

    async def start(self, uuid: str) -> Instance:
        """Start it with fresh credentials and wait until its CPUs run; does nothing when it runs already."""
        async with self._lock.acquire(uuid) as vm:
            if vm.state is InstanceState.RUNNING:
                return vm
            return await self._start(vm)

    async def stop(self, uuid: str, *, forced: bool = False) -> Instance:
        """Power it off, or end it at once when `forced`; the reconciler starts it again when its zone
        needs it.
        """
        async with self._lock.acquire(uuid) as vm:
            return await self._stop(vm, forced, "was stopped on request")

    async def reboot(self, uuid: str, *, forced: bool = False) -> Instance:
        """Power it off and on: it keeps addresses and name, and gets a new key and certificate."""
        async with self._lock.acquire(uuid) as vm:
            stopped = await self._stop(vm, forced, "is being rebooted")
            vm = await self._start(stopped)
            await self._event(vm, "REBOOT", "rebooted")
            return vm

    async def destroy(self, uuid: str) -> None:
        """End it and remove disk, addresses and name; the reconciler makes another one with a new name."""
        async with self._lock.acquire(uuid) as vm:
            await self._stop(vm, True, "is being destroyed")
            self._directory.forget(vm.instance_name, "the system VM was destroyed")
            await self._builder.delete_disk(vm)
            await self._database.run(
                console_revocations.end_of_proxy, vm.id, "the console proxy was destroyed"
            )
            await self._database.run(instances.remove, vm.id, InstanceState.EXPUNGING)
            await self._event(vm, "DESTROY", "destroyed")
            await self.admit_consoles()
        self._lock.forget(uuid)
        for callback in self._destroyed:
            callback()

    async def patch(self, uuid: str, *, forced: bool = False) -> PatchResult:
        """Install this daemon's agent while it runs; with `forced` also when it has that version already."""
        async with self._lock.acquire(uuid) as vm:
            if vm.state is not InstanceState.RUNNING:
                raise HypervisorError(
                    f"{vm.instance_name} cannot be patched: it is {vm.state.value}",
                    "wait until it is Running",
                )
            try:
                patched = await self._patching.patch(vm, forced=forced)
            except HypervisorError as error:
                await self._event(vm, "PATCH", f"was not patched: {error.message}", level="ERROR")
                raise
            if patched.changed:
                await self._event(vm, "PATCH", f"runs agent {patched.version}")
            return patched

    async def ended(self, name: str, reason: str, why: AgentStatus | None = None) -> Instance | None:
        """Record that a machine ended by itself; return None when that was requested, or it is no system
        VM.
        """
        hint = why.hint if why is not None else None
        if why is not None:
            reason = f"{reason}: it {why.reason}"
        vm = await self._database.run(_note_end, name, reason, hint)
        if vm is not None:
            self._directory.disconnected(name, f"is gone: the virtual machine ended ({reason})")
            await self._event(vm, "STOP", f"ended by itself: {reason}", level="WARN")
        return vm

    async def admit_consoles(self) -> None:
        """Open VNC servers to the management addresses of the existing CPVMs only."""
        addresses = await self._database.read(_console_addresses)
        await self._firewall.admit_consoles(addresses)

    # --- steps, under the VM's lock

    async def _start(self, vm: Instance) -> Instance:
        moved = await self._database.run(
            instances.change_state,
            vm.id,
            STARTABLE,
            InstanceState.STARTING,
            reason=None,
            hint=None,
            ended_by_itself=False,
            host_id=self._host_id,
        )
        if moved is None:
            raise HypervisorError(
                f"{vm.instance_name} cannot be started: it is {vm.state.value}", "wait until it is Stopped"
            )
        await self._database.run(
            console_revocations.end_of_proxy, vm.id, "the console proxy was started again"
        )
        self._expect_agent(vm)
        try:
            nics = await self._database.read(instances.nics_of, vm.id)
            stores = await self._database.read(zones.list_stores, moved.zone_id)
            facts = evolve(self._boot_facts(moved), stores=[store.wire for store in stores])
            built = await self._builder.build(moved, nics, facts)
            await self.admit_consoles()
            await self._database.run(
                instances.update,
                vm.id,
                image_sha256=built.image.sha256,
                sealed_vnc_password=self._seal.close(built.vnc_password),
            )
            started = await self._hypervisor.start(built.spec)
        except Exception as error:
            failure = _as_hypervisor_error(error)
            await self._record_failed_start(vm, failure)
            if failure is error:
                raise
            raise failure from error
        running = await self._database.run(
            instances.change_state,
            vm.id,
            [InstanceState.STARTING],
            InstanceState.RUNNING,
            started=now(),
            image_version=built.image.version,
            vnc_address=started.vnc_address,
            vnc_port=started.vnc_port,
            vnc_ca_pem=started.vnc_ca_pem,
            serial_port=started.serial_port,
            serial_fingerprint=started.serial_fingerprint,
        )
        status = self._hypervisor.status(vm.instance_name)
        if running is None or status is None or not status.state.alive:
            # It ended before its row was Running, when ends are not recorded.
            await self.ended(vm.instance_name, "it ended while it was being started")
            raise HypervisorError(
                f"{vm.instance_name} ended while it was being started",
                f'see "systemvm serial {vm.instance_name}" for its console',
            )
        await self._event(running, "START", "started")
        return running

    def _expect_agent(self, vm: Instance) -> None:
        """Forget what is known of the agent of an earlier start."""
        agent = self._directory.expect(vm.instance_name, ROLES[vm.type])
        agent.hello = None
        agent.refused_s = None
        agent.trusts, agent.certified_until_s = "", None
        self._directory.set_status(
            agent, AgentStatus(AgentState.CONNECTING, "waits for the virtual machine to boot")
        )

    async def _record_failed_start(self, vm: Instance, failure: HypervisorError) -> None:
        """Record why it is Stopped. A start is repeated for hours: only another reason is another event."""
        reason = f"could not be started: {failure.message}"
        await self._database.run(
            instances.update,
            vm.id,
            state=InstanceState.STOPPED,
            reason=reason,
            hint=failure.hint or None,
            ended_by_itself=False,
            **instances.NO_SCREEN,
        )
        self._directory.disconnected(vm.instance_name, "is gone: the virtual machine could not be started")
        if vm.reason != reason:
            await self._event(vm, "START", reason, level="ERROR")

    async def _stop(self, vm: Instance, forced: bool, why: str) -> Instance:
        if vm.state in STARTABLE:
            return vm
        self._directory.disconnected(vm.instance_name, f"is gone: the virtual machine {why}")
        await stop_machine(
            self._database,
            self._hypervisor,
            vm,
            forced=forced,
            timeout_s=POWER_OFF_S * self._timeout_scale(),
        )
        stopped = await self._database.run(
            instances.update,
            vm.id,
            state=InstanceState.STOPPED,
            reason=f"it {why}",
            hint=None,
            ended_by_itself=False,
            **instances.NO_SCREEN,
        )
        await self._event(stopped, "STOP", "stopped")
        return stopped

    async def _event(self, vm: Instance, what: str, text: str, level: str = "INFO") -> None:
        kind = "SSVM" if vm.type is InstanceType.SECONDARY_STORAGE else "PROXY"
        self._log.info("{name} {text}", name=vm.instance_name, text=text)
        await self._database.run(
            events.record,
            f"{kind}.{what}",
            f"{vm.instance_name} {text}",
            level=level,
            zone_id=vm.zone_id,
            resource_type="SystemVm",
            resource_uuid=vm.uuid,
        )


def _check_is_system_vm(vm: Instance) -> None:
    if vm.type not in ROLES:
        raise HypervisorError(f"{vm.instance_name} is not a system VM")


def _as_hypervisor_error(error: Exception) -> HypervisorError:
    if isinstance(error, HypervisorError):
        return error
    if isinstance(error, PrimaryStorageError | NetworkError):
        return HypervisorError(error.message, error.hint)
    trouble = host_errors.explain(error)
    if trouble is not None:
        return HypervisorError(trouble.message, trouble.hint)
    return HypervisorError(str(error) or type(error).__name__, "see the log of the management daemon")


def _note_end(connection: Connection, name: str, reason: str, hint: str | None) -> Instance | None:
    """Change a VM from Running to Stopped; a start or stop in progress records the end by itself."""
    system_vms = instances.list_system(connection)
    found = next((vm for vm in system_vms if VmName(vm.instance_name) == VmName(name)), None)
    if found is None:
        return None
    return instances.change_state(
        connection,
        found.id,
        [InstanceState.RUNNING],
        InstanceState.STOPPED,
        reason=f"ended: {reason}",
        hint=hint,
        ended_by_itself=True,
        **instances.NO_SCREEN,
    )


def _console_addresses(connection: Connection) -> set[IPv4Address]:
    proxies = [vm for vm in instances.list_system(connection) if vm.type is InstanceType.CONSOLE_PROXY]
    nics = instances.nics_by_vm(connection, [vm.id for vm in proxies])
    return {
        IPv4Address(nic.address)
        for of_vm in nics.values()
        for nic in of_vm
        if nic.traffic_type == TrafficType.MANAGEMENT.value and nic.address
    }
