# SPDX-License-Identifier: Apache-2.0
"""Deploy, start, stop, destroy, recover and expunge users' VMs: one operation at a time on each of them.

Each of them may be begun again after the daemon was restarted in its middle: what is done already is seen in
the rows and at the hypervisor, and not done twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.management.hypervisors.base import DomainStatus, ExitReason, Hypervisor
from systemvm.management.hypervisors.shutdown import end_machine
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts, events, instances
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.management.virtual_machines.deployment import Deployment, deploy, mark_expunged
from systemvm.management.virtual_machines.errors import MachineBusyError, MachineError, MachineStateError
from systemvm.management.virtual_machines.exit_reasons import ExitExplanation, explain
from systemvm.management.virtual_machines.machine import UserVmBuilder
from systemvm.management.vm_locks import PerVmLock
from systemvm.service import host_errors
from systemvm.service.slowness import TimeoutScale, unscaled
from systemvm.wire.vm_name import VmName

#: How long a guest may take after its power button was pressed, before the timeout scale.
SHUTDOWN_S = 60.0

_STARTABLE = (InstanceState.STOPPED, InstanceState.ERROR, InstanceState.STARTING)


class VirtualMachines:
    """What may be done to a user's VM, by its number."""

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
        expunge_delay_s: float = 86_400.0,
        end_consoles: Callable[[int], Awaitable[None]],
    ) -> None:
        self._database = database
        self._hypervisor = hypervisor
        self._builder = builder
        self._seal = seal
        self._host_id = host_id
        self._timeout_scale = timeout_scale
        self._end_consoles = end_consoles
        self._expunge_delay = timedelta(seconds=expunge_delay_s)
        self._lock = PerVmLock(database, instances.by_id, _check_is_users)

    def subscribe(self) -> None:
        """Record the ends of machines."""
        self._hypervisor.on_exit(self._exited)

    async def deploy(self, deployment: Deployment) -> Instance:
        """Make the rows of a VM; `start` makes its disk and boots it."""
        return await self._database.run(deploy, deployment)

    async def copy_template(self, template_id: int) -> None:
        """Copy a template to primary storage, for machines whose disk is not made yet."""
        await self._builder.copy_template(template_id)

    async def start(self, vm_id: int) -> Instance:
        """Boot it with a fresh screen password; fine when it runs already."""
        async with self._lock.acquire(vm_id) as vm:
            _check_exists(vm)
            status = self._hypervisor.status(vm.instance_name)
            if status is not None and status.state.alive:
                return await self._database.run(_set_running, vm, status)
            return await self._claim_and_boot(vm)

    async def stop(self, vm_id: int, *, forced: bool = False) -> Instance:
        """Press the power button, or pull the plug when `forced`; fine when it is Stopped."""
        async with self._lock.acquire(vm_id) as vm:
            _check_exists(vm)
            await self._end_process(vm, forced=forced)
            return await self._database.run(_set_stopped, vm.id, None, wanted=False)

    async def reboot(self, vm_id: int, *, forced: bool = False) -> Instance:
        """Stop and start a running one; MachineStateError when it does not run."""
        async with self._lock.acquire(vm_id) as vm:
            _check_exists(vm)
            # wanted: a daemon that was killed in the middle of this stopped it
            if vm.state is not InstanceState.RUNNING and not vm.wanted:
                raise MachineStateError(
                    f"{vm.name} is {vm.state.value}", "only a Running one can be rebooted"
                )
            await self._end_process(vm, forced=forced, wanted=True)
            stopped = await self._database.run(_set_stopped, vm.id, None, wanted=True)
            return await self._claim_and_boot(stopped)

    async def destroy(self, vm_id: int, *, expunge: bool = False) -> Instance:
        """End it. Its disk stays until `expunge_delay_s` is over, unless `expunge`; fine when it is gone."""
        async with self._lock.acquire(vm_id) as vm:
            if vm.removed is not None:
                return vm
            if not vm.state.is_gone:
                await self._end_process(vm, forced=True)
                vm = await self._database.run(_set_destroyed, vm, now() + self._expunge_delay)
            await self._end_consoles(vm.id)
            if not expunge:
                return vm
            await self._expunge(vm)
        return await self._expunged(vm_id)

    async def recover(self, vm_id: int) -> Instance:
        """Make a Destroyed one Stopped again; MachineStateError when it is not Destroyed (any more)."""
        async with self._lock.acquire(vm_id) as vm:
            recovered = await self._database.run(_set_recovered, vm)
            if recovered is None:
                raise MachineStateError(
                    "vm with specified id is not in the right state",
                    f"{vm.name} is {vm.state.value}; only a Destroyed one can be recovered",
                )
            return recovered

    async def expunge(self, vm_id: int) -> Instance:
        """Delete the disk of a Destroyed one now; fine when it is gone. MachineStateError for any other."""
        async with self._lock.acquire(vm_id) as vm:
            if vm.removed is not None:
                return vm
            if not vm.state.is_gone:
                raise MachineStateError(
                    "Please destroy vm with specified vmId before expunge", f"{vm.name} is {vm.state.value}"
                )
            await self._expunge(vm)
        return await self._expunged(vm_id)

    async def expunge_if_due(self, vm_id: int) -> bool:
        """`expunge` for the reaper: False when it was recovered, or expunged, since it was listed."""
        async with self._lock.acquire(vm_id) as vm:
            is_due = vm.expunge_at is not None and vm.expunge_at <= now()
            if vm.removed is not None or not vm.state.is_gone or not is_due:
                return False
            await self._expunge(vm)
        await self._expunged(vm_id)
        return True

    async def adopt(self, machines: Mapping[str, DomainStatus]) -> None:
        """After a start of the daemon: rows say what the hypervisor found. Jobs go on afterwards."""
        by_name = {VmName(name): status for name, status in machines.items()}
        for vm in await self._database.read(instances.list_user):
            if vm.host_id not in (None, self._host_id):
                continue
            if vm.state.is_gone:
                continue  # its process ended before its row said so
            status = by_name.get(VmName(vm.instance_name))
            if status is not None and status.state.alive:
                if vm.state is not InstanceState.STOPPING:
                    await self._database.run(_set_running, vm, status)
                self.log.info("adopted {name}", name=vm.instance_name)
            elif vm.state is InstanceState.RUNNING:
                why = explain(status.exit_reason if status else None)
                await self._database.run(_set_stopped, vm.id, why)

    # --- steps, under the VM's lock

    async def _claim_and_boot(self, vm: Instance) -> Instance:
        claimed = await self._database.run(_claim, vm, self._host_id)
        if claimed is None:
            raise MachineBusyError(f"{vm.name} is {vm.state.value}", "wait until it is Stopped")
        return await self._boot(claimed)

    async def _boot(self, vm: Instance) -> Instance:
        try:
            built = await self._builder.build(vm)
            await self._database.run(
                instances.update, vm.id, sealed_vnc_password=self._seal.close(built.vnc_password)
            )
            status = await self._hypervisor.start(built.spec)
        except Exception as error:
            message, hint = _words(error)
            self.log.info("{name} could not be started: {why}", name=vm.instance_name, why=message)
            await self._database.run(
                instances.update,
                vm.id,
                state=InstanceState.STOPPED,
                reason=f"It could not be started: {message}",
                hint=hint or None,
            )
            raise
        running = await self._database.run(_set_running, vm, status)
        after = self._hypervisor.status(vm.instance_name)
        if after is None or not after.state.alive:
            # It ended before its row said Running, when its exit was still taken for a failed start.
            why = explain(after.exit_reason if after else None)
            await self._database.run(_set_stopped, vm.id, why)
            raise MachineError(f"{vm.name} ended while it was being started: {why.reason}", why.hint or "")
        return running

    async def _expunge(self, vm: Instance) -> None:
        """From the first step on it cannot be recovered; a kill between two steps leaves it due."""
        await self._database.run(_set_expunging, vm)
        await self._builder.delete_disk(vm)
        await self._database.run(_set_expunged, vm)

    async def _expunged(self, vm_id: int) -> Instance:
        self._lock.forget(vm_id)
        return await self._database.read(instances.by_id, vm_id)

    async def _end_process(self, vm: Instance, *, forced: bool, wanted: bool = False) -> None:
        status = self._hypervisor.status(vm.instance_name)
        if status is None or not status.state.alive:
            return
        await end_machine(
            self._database,
            self._hypervisor,
            vm,
            forced=forced,
            timeout_s=SHUTDOWN_S * self._timeout_scale(),
            wanted=wanted,
        )

    # --- what happens by itself

    def _exited(self, name: str, reason: ExitReason) -> None:
        noted = Deferred.fromCoroutine(self._database.run(_note_exit, name, reason))
        noted.addErrback(
            lambda failure: self.log.failure("the end of {name} is not noted", failure, name=name)
        )


def _check_is_users(vm: Instance) -> None:
    if vm.type is not InstanceType.USER:
        raise MachineError(f"{vm.instance_name} is a system VM", "use the commands for system VMs")


def _check_exists(vm: Instance) -> None:
    """A job may have waited for the one that destroyed it."""
    if vm.removed is not None:
        raise NotFoundError(f"the virtual machine {vm.name} was destroyed")
    if vm.state.is_gone:
        recoverable = vm.state is InstanceState.DESTROYED
        hint = "recover it first, by recoverVirtualMachine" if recoverable else "deploy another one"
        raise MachineStateError(f"{vm.name} is {vm.state.value}", hint)


def _words(error: Exception) -> tuple[str, str]:
    """Message and hint of any error of ours: all carry both."""
    trouble = host_errors.explain(error)
    if trouble is not None and not hasattr(error, "hint"):
        return trouble.message, trouble.hint
    message, hint = getattr(error, "message", None), getattr(error, "hint", "")
    return str(message or error or type(error).__name__), str(hint)


def _claim(connection: Connection, vm: Instance, host_id: int) -> Instance | None:
    """Starting; None when another thing is being done to it.

    MachineStateError when its owner is disabled, as in CloudStack (UserVmManagerImpl.startVirtualMachine). In
    one transaction: disabling an account finds every machine that was claimed before.
    """
    owner = accounts.account_by_id(connection, vm.account_id)
    if not owner.may_run_machines:
        raise MachineStateError(
            f"The owner of {vm.name} is disabled: {owner.name}", "enable the account first, by enableAccount"
        )
    return instances.change_state(
        connection,
        vm.id,
        # Running without a process: its end has not been noted yet.
        (*_STARTABLE, InstanceState.RUNNING),
        InstanceState.STARTING,
        wanted=True,
        reason=None,
        hint=None,
        host_id=host_id,
    )


def _set_running(connection: Connection, vm: Instance, status: DomainStatus) -> Instance:
    was_running = vm.state is InstanceState.RUNNING
    running = instances.update(
        connection,
        vm.id,
        state=InstanceState.RUNNING,
        wanted=True,
        reason=None,
        hint=None,
        vnc_address=status.vnc_address,
        vnc_port=status.vnc_port,
        **({} if was_running else {"started": now()}),
    )
    if not was_running:
        _record(connection, running, "VM.START", "runs")
    return running


def _set_stopped(
    connection: Connection, vm_id: int, why: ExitExplanation | None, *, wanted: bool | None = None
) -> Instance:
    """Stopped, by request when there is nothing to explain; its consoles wait for the next start."""
    before = instances.by_id(connection, vm_id)
    stopped = instances.update(
        connection,
        vm_id,
        state=InstanceState.STOPPED,
        wanted=before.wanted if wanted is None else wanted,
        reason=why.reason if why else None,
        hint=why.hint if why else None,
        vnc_address=None,
        vnc_port=None,
        sealed_vnc_password=None,
    )
    if before.state is not InstanceState.STOPPED:
        _record(connection, stopped, "VM.STOP", f"stopped: {why.reason}" if why else "was stopped")
    return stopped


def _set_destroyed(connection: Connection, vm: Instance, expunge_at: datetime) -> Instance:
    """Destroyed, and recoverable until then."""
    destroyed = instances.update(
        connection,
        vm.id,
        state=InstanceState.DESTROYED,
        wanted=False,
        expunge_at=expunge_at,
        reason=f"It is destroyed; its disk is deleted after {expunge_at:%Y-%m-%d %H:%M} UTC.",
        hint="Recover it before then to keep it.",
        vnc_address=None,
        vnc_port=None,
        sealed_vnc_password=None,
    )
    _record(connection, destroyed, "VM.DESTROY", "is destroyed")
    return destroyed


def _set_recovered(connection: Connection, vm: Instance) -> Instance | None:
    """Destroyed → Stopped; None when it is not Destroyed."""
    recovered = instances.change_state(
        connection,
        vm.id,
        (InstanceState.DESTROYED,),
        InstanceState.STOPPED,
        expunge_at=None,
        reason=None,
        hint=None,
    )
    if recovered is not None:
        _record(connection, recovered, "VM.RECOVER", "is recovered")
    return recovered


def _set_expunging(connection: Connection, vm: Instance) -> None:
    instances.update(
        connection, vm.id, state=InstanceState.EXPUNGING, expunge_at=now(), reason=None, hint=None
    )


def _set_expunged(connection: Connection, vm: Instance) -> None:
    mark_expunged(connection, vm)
    _record(connection, vm, "VM.EXPUNGE", "is expunged")


def _note_exit(connection: Connection, name: str, reason: ExitReason) -> None:
    """Running → Stopped; one that is being started or stopped is the business of who does that."""
    for vm in instances.list_user(connection):
        if VmName(vm.instance_name) == VmName(name) and vm.state is InstanceState.RUNNING:
            _set_stopped(connection, vm.id, explain(reason))


def _record(connection: Connection, vm: Instance, event: str, text: str) -> None:
    events.record(
        connection,
        event,
        f"{vm.name} {text}",
        account_id=vm.account_id,
        domain_id=vm.domain_id,
        zone_id=vm.zone_id,
        resource_type="VirtualMachine",
        resource_uuid=vm.uuid,
    )
