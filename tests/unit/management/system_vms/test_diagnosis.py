# SPDX-License-Identifier: Apache-2.0
"""Diagnoses of known failures give exact reasons and hints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from guest_output import (
    ADDRESS,
    AGAIN,
    CONSOLES,
    FROM_INSIDE,
    NAME,
    NOW_S,
    PORT,
    RESET,
    guest,
    unit,
)
from settling import settled
from systemvm.management.control.agent import AgentStatus
from systemvm.management.control.refusal_recorder import RefusalRecorder
from systemvm.management.hypervisors import serial_log
from systemvm.management.hypervisors.base import ExitReason, Hypervisor
from systemvm.management.hypervisors.errors import DomainNotFoundError, HypervisorError
from systemvm.management.hypervisors.guest_agent_session import CommandResult, GuestAgentSilentError
from systemvm.management.state import instances
from systemvm.management.state.host_state import HostState, host_state
from systemvm.management.state.status import AgentState, InstanceState
from systemvm.management.system_vms import guest_probe
from systemvm.management.system_vms.diagnosis import BOOT_GRACE_S, Diagnosis
from systemvm.management.system_vms.operations import FIRST_ANSWER_S, SystemVmOperations
from systemvm.management.system_vms.secure_shell import HOST_KEY, SshAccess
from systemvm.rpc.core.call import Call, Caller
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.stream.peer_credentials import OPERATOR
from systemvm.rpc.tls.refusal import Refusal, hint_for
from systemvm.wire.control_failure import ControlFailure


class FakeGuest:
    def __init__(self, output: str | None) -> None:
        self.output = output
        self.files: dict[str, bytes] = {guest_probe.LOADAVG: b"0.10 0.05 0.01 1/90 400\n"}
        self.runs = 0

    async def ping(self, *, timeout_s: float) -> None:
        if self.output is None:
            raise GuestAgentSilentError(f"{NAME}: the guest agent does not answer")

    async def run(self, argv: list[str], *, timeout_s: float) -> CommandResult:
        self.runs += 1
        return CommandResult(0, None, (self.output or "").encode(), b"")

    async def read_file(self, path: str, *, limit_bytes: int, timeout_s: float) -> bytes:
        if self.output is None:
            raise GuestAgentSilentError(f"{NAME}: the guest agent does not answer")
        return self.files[path]


class FakeMachines:
    def __init__(self, output: str | None, state: str = "running") -> None:
        self.guest = FakeGuest(output)
        self.state = state

    def guest_agent(self, name: str) -> Any:
        if name != NAME:
            raise DomainNotFoundError(f"{name} does not run")
        return self.guest

    async def condition(self, name: str) -> str:
        if not self.state:
            raise HypervisorError("QEMU's monitor cannot be reached")
        return self.state


def diagnosis_of(host: Any, machines: FakeMachines) -> Diagnosis:
    return Diagnosis(
        host.clock, host.database, host.directory, machines, host.configuration.layout.logs,  # type: ignore[arg-type]
        host_id=host.host_id, address=ADDRESS, port=PORT, unix_clock=lambda: NOW_S,
    )  # fmt: skip


def console_of(host: Any, text: str) -> None:
    path: Path = host.configuration.layout.logs / f"{NAME}.log"
    path.write_bytes(serial_log.start_marker("2026-11-21") + text.encode())


async def rounds(host: Any, diagnosis: Diagnosis, advance_s: float = 0.0) -> AgentStatus:
    await diagnosis.probe()
    host.clock.advance(advance_s)
    await diagnosis.probe()
    await settled(host.database)
    status: AgentStatus = host.directory.agent(NAME).status
    return status


@pytest_twisted.ensureDeferred
async def test_diagnosis_sets_the_status_after_its_grace_period(host: Any) -> None:
    await host.reconciler.scan()
    machines = FakeMachines(guest(dial=("", 124)))
    diagnosis = diagnosis_of(host, machines)
    before = await rounds(host, diagnosis)
    assert (before.state, machines.guest.runs) == (AgentState.CONNECTING, 0)
    found = await rounds(host, diagnosis, BOOT_GRACE_S + 1)
    assert found.reason == FROM_INSIDE["port dropped"][1]
    assert found.state is AgentState.ALERT
    runs = machines.guest.runs
    await rounds(host, diagnosis, 1)
    assert machines.guest.runs == runs, "the guest is probed at an interval"


@pytest_twisted.ensureDeferred
async def test_slow_guest_is_reported_as_busy(host: Any) -> None:
    await host.reconciler.scan()
    machines = FakeMachines(guest())
    machines.guest.files[guest_probe.LOADAVG] = b"9.25 8.00 7.00 6/120 4000\n"
    found = await rounds(host, diagnosis_of(host, machines), BOOT_GRACE_S + 1)
    found = await rounds(host, diagnosis_of(host, machines), BOOT_GRACE_S + 1) if not found.reason else found
    vm = await host.database.read(instances.by_instance_name, NAME)
    finding = await diagnosis_of(host, machines).why(vm)
    assert finding.status is not None
    assert finding.status.reason == "is busy: load 9.2, 6 times slower than at its best"
    assert "NFS" not in finding.status.reason


@pytest_twisted.ensureDeferred
async def test_fault_takes_precedence_over_a_busy_guest(host: Any) -> None:
    await host.reconciler.scan()
    machines = FakeMachines(guest(agent=unit(ActiveState="inactive", Result="success")))
    machines.guest.files[guest_probe.LOADAVG] = b"9.25 8.00 7.00 6/120 4000\n"
    vm = await host.database.read(instances.by_instance_name, NAME)
    finding = await diagnosis_of(host, machines).why(vm)
    assert finding.status is not None
    assert finding.status.reason == FROM_INSIDE["agent stopped"][1]


@pytest_twisted.ensureDeferred
async def test_why_answers_in_time_while_the_hypervisor_does_not(host: Any) -> None:
    await host.reconciler.scan()
    answer: Deferred[str] = Deferred()
    machines = FakeMachines(guest())
    machines.condition = lambda name: answer  # type: ignore[assignment,method-assign,return-value]
    diagnosis = diagnosis_of(host, machines)
    operations = SystemVmOperations(
        host.database, host.directory, None, diagnosis, None, host.configuration.layout.logs, host.clock,  # type: ignore[arg-type]
    )  # fmt: skip
    table = MethodTable("operators", "1")
    operations.add_methods(table)
    call = Call(Caller("uid:0", OPERATOR), "r1", None)

    def why() -> Deferred[Any]:
        method = table.lookup(call, "system_vm.why")
        return Deferred.fromCoroutine(method.run(call, method.read_params({"name": NAME})))

    first_call, joined_call = why(), why()
    await settled(host.database)
    host.clock.advance(FIRST_ANSWER_S)
    assert FIRST_ANSWER_S < 10.0
    first = await first_call
    assert (first.name, first.pending, first.looked_at) == (NAME, "its hypervisor", [])
    assert (await joined_call).pending == "its hypervisor"
    answer.callback("io-error")
    last = await why()
    assert last.pending == ""
    assert last.reason == f"Its agent {HYPERVISOR['full disk'][2]}"


HYPERVISOR: dict[str, tuple[FakeMachines, str, str, str]] = {
    "full disk": (
        FakeMachines(guest(), "io-error"),
        "",
        "is halted with its VM: a write to its disk failed: the host's disk is full or broken",
        f"free space on primary storage, then run systemvm system-vm reboot --forced {NAME}",
    ),
    "paused": (
        FakeMachines(guest(), "paused"),
        "",
        "is halted with its VM, which is paused and not running",
        f"run systemvm system-vm reboot --forced {NAME}",
    ),
    "no byte": (
        FakeMachines(None),
        "",
        "did not boot: its VM has not written a byte to its serial console",
        "run `make images`, then destroy the VM: the image's kernel might not fit this machine",
    ),
    "silent": (
        FakeMachines(None, ""),
        RESET,
        "does not answer, nor does its VM: no answer of its guest agent and no output on its console",
        f"run systemvm system-vm reboot --forced {NAME}",
    ),
    "console": (
        FakeMachines(None),
        CONSOLES["out of memory"][0],
        CONSOLES["out of memory"][1],
        CONSOLES["out of memory"][2],
    ),
}


@pytest.mark.parametrize("case", HYPERVISOR)
@pytest_twisted.ensureDeferred
async def test_console_and_hypervisor_are_examined_without_a_guest_agent(host: Any, case: str) -> None:
    machines, console, reason, hint = HYPERVISOR[case]
    await host.reconciler.scan()
    console_of(host, console)
    diagnosis = diagnosis_of(host, machines)
    await rounds(host, diagnosis)
    assert await rounds(host, diagnosis, BOOT_GRACE_S + 1) == AgentStatus(AgentState.ALERT, reason, hint)


@pytest_twisted.ensureDeferred
async def test_final_error_on_the_console_is_reported_at_once(host: Any) -> None:
    await host.reconciler.scan()
    console_of(host, CONSOLES["no boot arguments"][0])
    status = await rounds(host, diagnosis_of(host, FakeMachines(None)))
    assert status.reason == CONSOLES["no boot arguments"][1]


@pytest.mark.parametrize(
    "check",
    [ControlFailure.WRONG_CA, ControlFailure.EXPIRED, ControlFailure.NOT_YET_VALID, ControlFailure.REVOKED],
)
@pytest_twisted.ensureDeferred
async def test_refusal_takes_precedence_over_a_diagnosis(host: Any, check: ControlFailure) -> None:
    await host.reconciler.scan()
    vm = await host.database.read(instances.by_instance_name, NAME)
    nics = await host.database.read(instances.nics_of, vm.id)
    control = next(nic.address for nic in nics if nic.traffic_type == "control")
    diagnosis = diagnosis_of(host, FakeMachines(guest(dial=("", 124))))
    await rounds(host, diagnosis)
    host.clock.advance(BOOT_GRACE_S)
    await RefusalRecorder(host.database, host.directory, host.clock.seconds).note(
        control, Refusal(check, "the check failed")
    )
    status = await rounds(host, diagnosis, 1)
    assert (status.reason, status.hint) == (f"was refused ({check.value}): the check failed", hint_for(check))


@pytest_twisted.ensureDeferred
async def test_end_before_the_agent_connected_is_explained_by_the_console(host: Any) -> None:
    host.reconciler._last_serial_error = diagnosis_of(host, FakeMachines(None)).last_serial_error
    await host.reconciler.scan()
    console_of(host, CONSOLES["kernel panic"][0])
    host.hypervisor.end(NAME, ExitReason.GUEST_RESET)
    await settled(host.database)
    vm = await host.database.read(instances.by_instance_name, NAME)
    assert vm.state is InstanceState.STOPPED
    assert vm.reason == f"ended: guest-reset: it {CONSOLES['kernel panic'][1]}"
    assert vm.hint == AGAIN
    assert host_state(vm) is HostState.DOWN


@pytest_twisted.ensureDeferred
async def test_host_keys_are_read_through_the_guest_agent_before_hello(
    host: Any,
) -> None:
    await host.reconciler.scan()
    vm = await host.database.read(instances.by_instance_name, NAME)
    vm = await host.database.run(instances.update, vm.id, host_keys=["ssh-ed25519 OLD"])
    machines = FakeMachines(guest())
    machines.guest.files[HOST_KEY] = b"ssh-ed25519 NEW root@s-1-VM\n"
    logins = SshAccess(host.database, host.directory, cast(Hypervisor, machines), Path("/key"))
    assert list((await logins.login(vm)).host_keys) == ["ssh-ed25519 NEW"]
    silent = SshAccess(host.database, host.directory, cast(Hypervisor, FakeMachines(None)), Path("/key"))
    assert list((await silent.login(vm)).host_keys) == ["ssh-ed25519 OLD"]
    never = await host.database.run(instances.update, vm.id, host_keys=[])
    with pytest.raises(HypervisorError, match="has no known ssh host keys"):
        await silent.login(never)
