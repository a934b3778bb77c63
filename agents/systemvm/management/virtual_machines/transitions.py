# SPDX-License-Identifier: Apache-2.0
"""The state transitions of users' VMs in the database, each with its event. Functions over a connection."""

from __future__ import annotations

from datetime import timedelta

from systemvm.management.config import ExpungeConfig
from systemvm.management.configurations.expunge import expunge_rules
from systemvm.management.hypervisors.base import DomainStatus, ExitReason
from systemvm.management.jobs.runner import Begins
from systemvm.management.resource_limits import limits
from systemvm.management.state import accounts, events, instances, machine_passwords
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.deployment import mark_expunged
from systemvm.management.virtual_machines.errors import MachineStateError
from systemvm.management.virtual_machines.exit_reasons import DISK_FULL, ExitExplanation, explain
from systemvm.wire.vm_name import VmName

STARTABLE = (InstanceState.STOPPED, InstanceState.ERROR, InstanceState.STARTING)


def claim(connection: Connection, vm: Instance, host_id: int) -> Instance | None:
    """Change a VM to Starting; return None when another operation is in progress.

    One transaction: disabling an account finds every machine that was claimed before.
    Raises: MachineStateError when its owner is disabled, as in CloudStack
        (UserVmManagerImpl.startVirtualMachine).
    """
    owner = accounts.account_by_id(connection, vm.account_id)
    if not owner.may_run_machines:
        raise MachineStateError(
            f"The owner of {vm.name} is disabled: {owner.name}",
            "enable the account first with enableAccount",
            value=vm.uuid,
        )
    return instances.change_state(
        connection,
        vm.id,
        # Running without a process: its end is not recorded yet.
        (*STARTABLE, InstanceState.RUNNING),
        InstanceState.STARTING,
        wanted=True,
        reason=None,
        hint=None,
        host_id=host_id,
    )


def set_running(connection: Connection, vm: Instance, status: DomainStatus) -> Instance:
    # Stopping: it goes on, because a daemon was killed while it stopped it
    was_running = vm.state in (InstanceState.RUNNING, InstanceState.STOPPING)
    running = instances.update(
        connection,
        vm.id,
        state=InstanceState.RUNNING,
        wanted=True,
        reason=None,
        hint=None,
        vnc_address=status.vnc_address,
        vnc_port=status.vnc_port,
        vnc_ca_pem=status.vnc_ca_pem,
        serial_port=status.serial_port,
        serial_fingerprint=status.serial_fingerprint,
        **({} if was_running else {"started": now()}),
    )
    if not was_running:
        if status.has_config_drive:
            machine_passwords.mark_read(connection, vm.id)
        _record(connection, running, "VM.START", "runs")
    return running


def set_not_started(connection: Connection, vm_id: int, why: ExitExplanation) -> Instance:
    """Change a VM from Starting to Stopped."""
    return instances.update(connection, vm_id, state=InstanceState.STOPPED, reason=why.reason, hint=why.hint)


def set_stopped(
    connection: Connection, vm_id: int, why: ExitExplanation | None, *, wanted: bool | None = None
) -> Instance:
    """Change a VM to Stopped, by request when `why` is None; its consoles wait for the next start."""
    before = instances.by_id(connection, vm_id)
    stopped = instances.update(
        connection,
        vm_id,
        state=InstanceState.STOPPED,
        wanted=before.wanted if wanted is None else wanted,
        reason=why.reason if why else None,
        hint=why.hint if why else None,
        **instances.NO_SCREEN,
    )
    if before.state is not InstanceState.STOPPED:
        _record(connection, stopped, "VM.STOP", f"stopped: {why.reason}" if why else "was stopped")
    return stopped


def set_halted(connection: Connection, vm_id: int) -> None:
    """Note that a Running VM waits for room on its storage."""
    why = DISK_FULL
    halted = instances.change_state(
        connection, vm_id, (InstanceState.RUNNING,), InstanceState.RUNNING, reason=why.reason, hint=why.hint
    )
    if halted is not None:
        _record(connection, halted, "VM.HALT", f"is halted: {why.reason}", level="ERROR")


def set_resumed(connection: Connection, vm_id: int) -> None:
    """Note that a VM which was halted goes on; does nothing when it was stopped meanwhile."""
    resumed = instances.change_state(
        connection, vm_id, (InstanceState.RUNNING,), InstanceState.RUNNING, reason=None, hint=None
    )
    if resumed is not None:
        _record(connection, resumed, "VM.RESUME", "goes on")


def reset_password(connection: Connection, vm: Instance, sealed: bytes, begins: Begins) -> None:
    """Have a Stopped VM's guest take a new password, unless the job did so before: it can have taken it.

    Raises: MachineStateError when it is not Stopped.
    """
    if not begins(connection):
        return
    if vm.state is not InstanceState.STOPPED:
        raise MachineStateError(
            f"{vm.name} should be stopped to do password reset: it is {vm.state.value}",
            "stop it first with stopVirtualMachine",
            value=vm.uuid,
        )
    set_password(connection, vm, sealed)


def set_password(connection: Connection, vm: Instance, sealed: bytes) -> None:
    """Have a VM's guest take a new password at its next start; does nothing when it has this one."""
    present = machine_passwords.of_vm(connection, vm.id)
    if present is None or present.sealed != sealed:
        machine_passwords.put(connection, vm.id, sealed)
        _record(connection, vm, "VM.RESETPASSWORD", "gets a new password at its next start")


def set_destroyed(connection: Connection, vm: Instance, file: ExpungeConfig) -> Instance:
    """Change a VM to Destroyed; it can be recovered for `expunge.delay`, by default that of `file`."""
    expunge_at = now() + timedelta(seconds=expunge_rules(connection, file).delay)
    destroyed = instances.update(
        connection,
        vm.id,
        state=InstanceState.DESTROYED,
        wanted=False,
        expunge_at=expunge_at,
        reason=f"It is destroyed; its disk is deleted after {expunge_at:%Y-%m-%d %H:%M} UTC.",
        hint="Recover it before that time to keep it.",
        **instances.NO_SCREEN,
    )
    _record(connection, destroyed, "VM.DESTROY", "is destroyed")
    return destroyed


def set_recovered(connection: Connection, vm: Instance) -> Instance | None:
    """Change a VM from Destroyed to Stopped; return None when it is not Destroyed.

    Raises: ResourceLimitError when its account has as many others as it is allowed to.
    """
    if vm.state is InstanceState.DESTROYED:
        amounts = {ResourceType.user_vm: 1, ResourceType.cpu: vm.vcpus, ResourceType.memory: vm.memory_mib}
        limits.check(connection, vm.account_id, amounts)
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


def set_expunging(connection: Connection, vm: Instance) -> None:
    instances.update(
        connection, vm.id, state=InstanceState.EXPUNGING, expunge_at=now(), reason=None, hint=None
    )


def set_expunged(connection: Connection, vm: Instance) -> None:
    mark_expunged(connection, vm)
    _record(connection, vm, "VM.EXPUNGE", "is expunged")


def record_exit(connection: Connection, name: str, reason: ExitReason) -> None:
    """Change a VM from Running to Stopped; a start or stop in progress records the end by itself."""
    for vm in instances.list_user(connection):
        if VmName(vm.instance_name) == VmName(name) and vm.state is InstanceState.RUNNING:
            set_stopped(connection, vm.id, explain(reason))


def _record(connection: Connection, vm: Instance, event: str, text: str, level: str = "INFO") -> None:
    events.record(
        connection,
        event,
        f"{vm.name} {text}",
        level=level,
        account_id=vm.account_id,
        domain_id=vm.domain_id,
        zone_id=vm.zone_id,
        resource_type="VirtualMachine",
        resource_uuid=vm.uuid,
    )
