# SPDX-License-Identifier: Apache-2.0
"""Keeps one SSVM and one CPVM running in each zone: creates, starts and restarts them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from systemvm.host.zone import ZoneConfig
from systemvm.management.config import Configuration
from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.hypervisors.base import DomainStatus, ExitReason, Hypervisor
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances, zones
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AgentState, InstanceState
from systemvm.management.state.zones import Zone
from systemvm.management.system_vms.allocation import allocate
from systemvm.management.system_vms.boot_arguments import ROLES, TYPES
from systemvm.management.system_vms.lifecycle import SystemVmLifecycle
from systemvm.management.zone_model.disabled_places import DisabledPlace, disabled_place
from systemvm.service.backoff import KeyedBackoff
from systemvm.service.slowness import TimeoutScale, unscaled
from systemvm.wire.role import Role
from systemvm.wire.vm_name import VmName

#: Returns why a machine ended before its agent connected, if its serial console shows it.
LastSerialError = Callable[[str], Awaitable[AgentStatus | None]]

MANAGED_ROLES = (Role.SSVM, Role.CPVM)

#: The delay before a machine that ended by itself is started again.
RESTART_S = 1.0


class SystemVmReconciler:
    """Starts missing system VMs. A scan is one pass over all zones, at an interval and after events."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        configuration: Configuration,
        lifecycle: SystemVmLifecycle,
        hypervisor: Hypervisor,
        directory: AgentDirectory,
        *,
        host_id: int,
        timeout_scale: TimeoutScale = unscaled,
        last_serial_error: LastSerialError | None = None,
    ) -> None:
        self._clock = clock
        self._database = database
        self._configuration = configuration
        self._lifecycle = lifecycle
        self._hypervisor = hypervisor
        self._directory = directory
        self._host_id = host_id
        self._last_serial_error = last_serial_error
        supervision = configuration.management.supervision
        self._interval_s = supervision.scan_interval_s
        self._agent_deadline_s = supervision.agent_deadline_s
        self._timeout_scale = timeout_scale
        self._backoff = KeyedBackoff[str](
            clock.seconds, first_s=supervision.retry_first_s, last_s=supervision.retry_max_s
        )
        self._silent_since_s: dict[str, float] = {}
        self._disabled: dict[int, DisabledPlace | None] = {}  # as logged, by the number of a zone
        self._scanning = DeferredLock()
        self._scan_again = False
        self._timer: IDelayedCall | None = None
        self._started = False
        self._stopped = False

    def subscribe(self) -> None:
        """React to ends of machines, agents that come up, and system VMs that are destroyed."""
        self._hypervisor.on_exit(self._exited)
        self._directory.on_up(self._came_up)
        self._lifecycle.on_destroyed(self.wake)

    async def adopt(self, machines: Mapping[str, DomainStatus]) -> None:
        """Bring the rows up to date with the machines that a new daemon found."""
        by_name = {VmName(name): status for name, status in machines.items()}
        for vm in await self._database.read(instances.list_system):
            if vm.host_id not in (None, self._host_id):
                continue
            status = by_name.get(VmName(vm.instance_name))
            alive = status is not None and status.state.alive
            reason = (
                "has not connected since the management daemon was restarted"
                if alive
                else "is gone: the virtual machine is not running"
            )
            agent = self._directory.expect(vm.instance_name, ROLES[vm.type])
            self._directory.set_status(agent, AgentStatus(AgentState.DISCONNECTED, reason))
            if status is not None and alive:
                running: dict[str, Any] = {}
                if vm.state is not InstanceState.RUNNING:
                    running = {"state": InstanceState.RUNNING, "reason": None, "ended_by_itself": False}
                await self._database.run(
                    instances.update,
                    vm.id,
                    vnc_address=status.vnc_address,
                    vnc_port=status.vnc_port,
                    vnc_ca_pem=status.vnc_ca_pem,
                    serial_port=status.serial_port,
                    serial_fingerprint=status.serial_fingerprint,
                    **running,
                )
            elif vm.state.has_process:
                reason = "it ended while no management daemon was running"
                await self._database.run(
                    instances.update, vm.id, state=InstanceState.STOPPED, reason=reason, **instances.NO_SCREEN
                )
            if alive:
                self._log.info("adopted {name}", name=vm.instance_name)
        await self._lifecycle.admit_consoles()

    def start(self) -> None:
        self._started = True
        self._schedule(0.0)

    async def stop(self) -> None:
        """Stop scanning and wait for the scan in progress; machines continue."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._scanning.acquire()
        self._scanning.release()

    def wake(self, delay_s: float = 0.0) -> None:
        """Scan after `delay_s`."""
        if self._stopped or not self._started:
            return
        timer = self._timer
        if timer is None or not timer.active() or timer.getTime() > self._clock.seconds() + delay_s:
            self._schedule(delay_s)

    async def scan(self) -> None:
        """Run one pass; a failure is recorded in its row and retried later."""
        await self._scanning.acquire()
        try:
            for zone in await self._database.read(zones.list_zones):
                if await self._is_disabled(zone):
                    continue
                try:
                    config = self._configuration.zone(zone.name)
                except LookupError:
                    continue
                for role in MANAGED_ROLES:
                    if config.system_vms.of(role).enabled and not self._stopped:
                        await self._reconcile(zone, config, role)
        finally:
            self._scanning.release()
            if self._scan_again and not self._stopped:
                self._scan_again = False
                self._schedule(0.0)

    async def _is_disabled(self, zone: Zone) -> bool:
        """Return whether a zone gets no system VMs now; the log says once why."""
        place = await self._database.read(disabled_place, zone, self._host_id)
        if place is not None and place != self._disabled.get(zone.id):
            self._log.info(
                "zone {zone} gets no system VMs: {noun} {name} is Disabled; enable it with {command}",
                zone=zone.name,
                noun=place.noun,
                name=place.name,
                command=place.command,
            )
        self._disabled[zone.id] = place
        return place is not None

    # --- one VM

    async def _reconcile(self, zone: Zone, config: ZoneConfig, role: Role) -> None:
        key = f"{zone.name}/{role.value}"
        if self._backoff.due_in_s(key) > 0:
            return
        if role is Role.SSVM and not await self._database.read(zones.list_stores, zone.id):
            return  # as in CloudStack: without a store it has no work
        try:
            vm = await self._find_or_make(zone, config, role)
            await self._bring_up(vm)
        except Exception as error:
            wait_s = self._backoff.failed(key)
            self._log.warn(
                "{role} of zone {zone} cannot be started: {error}; next attempt in {wait_s:.0f} s",
                role=role.value,
                zone=zone.name,
                error=str(error),
                wait_s=wait_s,
            )
            if not isinstance(error, HypervisorError):
                self._log.failure("unexpected")
            self.wake(wait_s)

    async def _find_or_make(self, zone: Zone, config: ZoneConfig, role: Role) -> Instance:
        found = [
            vm
            for vm in await self._database.read(instances.list_system, zone.id)
            if vm.type is TYPES[role] and vm.host_id in (None, self._host_id)
        ]
        if found:
            return found[0]
        vm = await self._database.run(allocate, zone, config, role, self._host_id, self._configuration.labels)
        self._log.info("created {name} for zone {zone}", name=vm.instance_name, zone=zone.name)
        return vm

    async def _bring_up(self, vm: Instance) -> None:
        if vm.state in (InstanceState.STOPPED, InstanceState.ERROR):
            await self._lifecycle.start(vm.uuid)
        elif vm.state is InstanceState.RUNNING and self._hangs(vm):
            self._log.warn(
                "restarting {name}: its agent is not connected ({why})",
                name=vm.instance_name,
                why=vm.agent_reason or "reason unknown",
            )
            await self._lifecycle.reboot(vm.uuid, forced=True)

    def _hangs(self, vm: Instance) -> bool:
        """Return whether it has run without its agent for longer than the deadline."""
        if self._directory.peer(vm.instance_name) is not None:
            self._silent_since_s.pop(vm.uuid, None)
            return False
        since_s = self._silent_since_s.setdefault(vm.uuid, self._clock.seconds())
        if self._clock.seconds() - since_s <= self._agent_deadline_s * self._timeout_scale():
            return False
        del self._silent_since_s[vm.uuid]
        return True

    # --- events

    def _exited(self, name: str, reason: ExitReason) -> None:
        Deferred.fromCoroutine(self._note_exit(name, reason)).addErrback(
            lambda failure: self._log.failure("cannot record the end of {name}", failure=failure, name=name)
        )

    async def _note_exit(self, name: str, reason: ExitReason) -> None:
        agent = self._directory.agent(name)
        why = None
        if self._last_serial_error is not None and (agent is None or agent.hello is None):
            why = await self._last_serial_error(name)
        vm = await self._lifecycle.ended(name, reason.value, why)
        if vm is None:
            return
        self._silent_since_s.pop(vm.uuid, None)
        if agent is None or agent.hello is None:
            # It ended before its agent connected: without a backoff this would repeat for ever.
            zone = await self._database.read(zones.zone_by_id, vm.zone_id)
            self.wake(self._backoff.failed(f"{zone.name}/{ROLES[vm.type].value}"))
        else:
            self.wake(RESTART_S)

    async def _came_up(self, agent: Agent) -> None:
        vm = await self._database.read(instances.by_instance_name, agent.name)
        zone = await self._database.read(zones.zone_by_id, vm.zone_id)
        self._backoff.succeeded(f"{zone.name}/{agent.role.value}")

    def _schedule(self, delay_s: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(delay_s, self._tick)

    def _tick(self) -> None:
        if self._scanning.locked:
            # a start can take minutes: one scan follows it, not one for each tick
            self._scan_again = True
            return
        scan = Deferred.fromCoroutine(self.scan())
        scan.addErrback(lambda failure: self._log.failure("scan of system VMs failed", failure=failure))
        if not self._stopped:
            self._schedule(self._interval_s)
