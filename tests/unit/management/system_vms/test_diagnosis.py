# SPDX-License-Identifier: Apache-2.0
"""Provoked failures, each with its exact reason and hint: consoles, and answers of guest agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from settling import settled
from systemvm.management.boot_failure_messages import BOOT_FAILURE_REASONS
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
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.control_failure import ControlFailure

NAME, ADDRESS, PORT = "s-1-VM", "169.254.0.1", 8250
NOW_S = 1_700_000_000.0
AGAIN = f"see systemvm serial {NAME} for its console"
REBOOT = f"systemvm system-vm reboot {NAME}"
SSH = f"systemvm ssh {NAME} -- systemctl"
RESET = "\x1b[!p\x1b]104\x07\x1b[?7h"
MORE_MEMORY = "give it more memory (system_vms in its zone's file)"


def guest(**changes: Any) -> str:
    """The script's output in a guest that is well, but for `changes`: text, or text and exit code."""
    parts: dict[str, Any] = {
        "clock": f"{NOW_S:.0f}",
        "preinit": "LoadState=loaded\nActiveState=active\nResult=success\nExecMainStatus=0",
        "agent": "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nSubState=running\n"
        "Result=success\nExecMainStatus=0\nNRestarts=0\nStatusText=dialing 169.254.0.1:8250",
        "preinit-journal": entry("s-1-VM is a ssvm: eth0 169.254.10.2/16"),
        "agent-journal": entry("Control channel: dialing 169.254.0.1:8250", CHANNEL="dialing"),
        "addresses": "lo       UNKNOWN  127.0.0.1/8\neth0     UP       169.254.10.2/16",
        "route": "169.254.0.1 dev eth0 src 169.254.10.2 uid 0\n    cache",
        "dial": "",
        "firewall": "",
    }
    for name, value in changes.items():
        parts[name.replace("_", "-")] = value
    text = ""
    for name, value in parts.items():
        said, code = value if isinstance(value, tuple) else (value, 0)
        text += f"=== {name}\n{said}\n--- {code}\n"
    return text


def unit(**fields: str) -> str:
    return "\n".join(f"{key}={value}" for key, value in {"LoadState": "loaded", **fields}.items())


def entry(message: str, **fields: str) -> str:
    """A line of `journalctl -o json`, which has fields besides those that were asked for."""
    return json.dumps({"__CURSOR": "s=1", "MESSAGE": message, **fields})


def not_connected(reason: str, why: str) -> str:
    text = f"Control channel: not connected to 169.254.0.1:8250: {why}; next attempt in 4.1 s"
    return entry(text, CHANNEL="not_connected", REASON=reason, WHY=why, HOST="169.254.0.1")


FAILED = {"ActiveState": "failed", "Result": "exit-code"}
FROM_INSIDE: dict[str, tuple[dict[str, Any], str, str]] = {
    "no boot arguments": (
        {
            "preinit": unit(**FAILED, ExecMainStatus="10"),
            "preinit_journal": entry("no systemd credential", REASON="no_boot_arguments", HINT="give them"),
        },
        "has no boot arguments: no systemd credential",
        "give them",
    ),
    "waits for boot arguments": (
        {
            "preinit": unit(ActiveState="activating"),
            "preinit_journal": entry("no credential came", REASON="awaiting_boot_arguments", WAIT_S="180"),
        },
        "has no boot arguments: it waits for them by qemu-guest-agent",
        f"run {REBOOT}: the machine got no credential at its start",
    ),
    "bad boot arguments": (
        {
            "preinit": unit(**FAILED, ExecMainStatus="11"),
            "preinit_journal": entry("eth0ip=x is no address", REASON="bad_boot_arguments", HINT=""),
        },
        "has invalid boot arguments: eth0ip=x is no address",
        f"run {REBOOT} to start it with fresh ones",
    ),
    "NIC absent": (
        {"preinit": unit(**FAILED, ExecMainStatus="12"), "preinit_journal": ""},
        "does not have the NICs of its boot arguments",
        f"run {REBOOT} to start it with fresh ones",
    ),
    "agent stopped": (
        {"agent": unit(ActiveState="inactive", Result="success")},
        "is stopped: its unit was ended",
        f"{SSH} start systemvm-agent",
    ),
    "agent masked": (
        {"agent": "LoadState=masked\nUnitFileState=masked-runtime\nActiveState=inactive"},
        "is masked: its unit cannot start",
        f"{SSH} unmask --runtime systemvm-agent, then start it",
    ),
    "agent cannot start": (
        {
            "agent": unit(
                ActiveState="activating", SubState="auto-restart", Result="exit-code", NRestarts="3"
            ),
            "agent_journal": entry("x", REASON="agent_cannot_start", WHY="the identity holds no key"),
        },
        "cannot start: the identity holds no key",
        f"see systemvm ssh {NAME} -- journalctl -u systemvm-agent; a reboot gives it fresh keys",
    ),
    "agent killed for memory": (
        {"agent": unit(ActiveState="failed", Result="oom-kill")},
        "was killed because of a lack of memory",
        MORE_MEMORY,
    ),
    "no route": (
        {"route": ("RTNETLINK answers: Network is unreachable", 2)},
        "has no route to 169.254.0.1",
        f"run {REBOOT} to set up its network again",
    ),
    "route by another NIC": (
        {"route": "169.254.0.1 via 203.0.113.1 dev eth2 src 203.0.113.9 uid 0"},
        "has no route to 169.254.0.1 by its control NIC: the route uses eth2",
        f"run {REBOOT} to set up its network again",
    ),
    "control NIC down": (
        {"addresses": "lo UNKNOWN 127.0.0.1/8\neth0 DOWN"},
        "has no route to 169.254.0.1: its control NIC eth0 is down",
        f"run {REBOOT} to set up its network again",
    ),
    "port refused": (
        {"dial": ("bash: connect: Connection refused", 1)},
        "cannot reach the daemon's port 8250: 169.254.0.1:8250 refused the connection",
        "check control.address and control.port of managementd.yaml, and `nft list ruleset` for a firewall "
        "that rejects the port",
    ),
    "port dropped": (
        {"dial": ("", 124)},
        "cannot reach the daemon's port 8250: 169.254.0.1:8250 does not answer",
        "check `nft list ruleset` of the host for a firewall that drops port 8250 or the bridge cloud0",
    ),
    "nobody there": (
        {"dial": ("bash: connect: No route to host", 1)},
        "cannot reach 169.254.0.1: no host has that address on its control network",
        "check with `ip address show cloud0` that the bridge is up and has that address",
    ),
    "clock behind": (
        {"clock": f"{NOW_S - 2 * 86400:.0f}"},
        "has a clock that is 2 days behind",
        f"check the host's own clock with timedatectl, then run {REBOOT}",
    ),
    "another CA": (
        {"agent_journal": not_connected("wrong-ca", "TLS: certificate verify failed")},
        "cannot establish TLS with the daemon: TLS: certificate verify failed",
        f"run {REBOOT} to start it with fresh credentials and the current CA",
    ),
    "hello failed": (
        {"agent_journal": not_connected("hello-failed", "internal error")},
        "is not connected: internal error",
        f"see systemvm logs {NAME}; the agent dials again automatically",
    ),
    "a reason of a later release": (
        {"agent_journal": not_connected("sunspots", "the sun")},
        "is not connected: the sun",
        f"see systemvm logs {NAME}; the agent dials again automatically",
    ),
    "a guest of before protocol 3 that cannot be prepared": (
        {
            "preinit": unit(**FAILED, ExecMainStatus="1"),
            "preinit_journal": entry("systemvm-preinit: no boot arguments: TLS"),
        },
        "cannot be prepared, for an unknown reason: systemvm-preinit: no boot arguments: TLS",
        f"run {REBOOT} to start it with fresh ones",
    ),
    "a guest of before protocol 3 whose agent cannot start": (
        {
            "agent": unit(ActiveState="failed", Result="exit-code"),
            "agent_journal": entry("Traceback") + "\n" + entry("ValueError: x"),
        },
        "cannot start: ValueError: x",
        f"see systemvm ssh {NAME} -- journalctl -u systemvm-agent; a reboot gives it fresh keys",
    ),
    "a guest of before protocol 3 that is not connected": (
        {"agent": unit(ActiveState="active", StatusText="TLS: no"), "agent_journal": entry("TLS: no")},
        "is not connected, for an unknown reason; it reports: TLS: no",
        f"see systemvm logs {NAME}; the agent dials again automatically",
    ),
}


@pytest.mark.parametrize("case", FROM_INSIDE)
def test_probe_explains_the_fault(case: str) -> None:
    changes, reason, hint = FROM_INSIDE[case]
    seen = guest_probe.parse(guest(**changes), NOW_S)
    assert guest_probe.explain(seen, NAME, ADDRESS, PORT) == AgentStatus(AgentState.ALERT, reason, hint)


def test_probe_of_a_healthy_guest_has_no_reason() -> None:
    assert guest_probe.explain(guest_probe.parse(guest(), NOW_S + 3), NAME, ADDRESS, PORT) is None


@pytest.mark.parametrize(
    "output",
    ["", "=== clock\n", "=== dial\nx\n--- ", "\x00" * 100, "=== preinit\nActiveState=failed\n--- 0\n"],
)
def test_truncated_output_is_parsed(output: str) -> None:
    guest_probe.explain(guest_probe.parse(output, NOW_S), NAME, ADDRESS, PORT)


def test_every_boot_failure_has_a_text() -> None:
    codes = [code for code in range(2, 256) if BootFailure.of_exit_code(code) is not None]
    of_preinit = [BootFailure.of_exit_code(code) for code in codes]
    assert len(of_preinit) == 5
    assert set(of_preinit) < set(BOOT_FAILURE_REASONS) == set(BootFailure)


CONSOLES: dict[str, tuple[str, str, str]] = {
    "no root file system": (
        "initrd: REASON=no_root_file_system no root file system on LABEL=root\r\n"
        "initrd: HINT=give QEMU the image as its first disk\r\n"
        "[   13.02] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n",
        "did not boot: no root file system on LABEL=root",
        "destroy it, so that it gets a new disk; if that fails, too, run make images",
    ),
    "no initrd": (
        '[    2.1] VFS: Cannot open root device "LABEL=root" or unknown-block(0,0): error -6\r\n'
        "[    2.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n",
        "did not boot: the kernel found no root file system on LABEL=root",
        "run make images: kernel, initial file system and disk must be of one image",
    ),
    "kernel panic": (
        "[    5.123456] Kernel panic - not syncing: Fatal exception in interrupt\r\n[    5.2] CPU: 0\r\n",
        "did not boot: the kernel panicked: Fatal exception in interrupt",
        AGAIN,
    ),
    "too little memory": (
        "[    3.0] Kernel panic - not syncing: System is deadlocked on memory\r\n",
        "did not boot: the kernel panicked: System is deadlocked on memory",
        MORE_MEMORY,
    ),
    "no boot arguments": (
        f"{RESET}systemvm-preinit: REASON=no_boot_arguments no systemd credential systemvm.cmdline\r\n"
        "systemvm-preinit: HINT=give QEMU a type=11 SMBIOS file\r\n",
        "has no boot arguments: no systemd credential systemvm.cmdline",
        "give QEMU a type=11 SMBIOS file",
    ),
    "waits for boot arguments": (
        f"{RESET}systemvm-preinit: REASON=awaiting_boot_arguments no credential came\r\n",
        "has no boot arguments: it waits for them by qemu-guest-agent",
        "reboot it: the machine got no credential at its start",
    ),
    "NIC absent": (
        f"{RESET}systemvm-preinit: REASON=nic_absent there is no NIC eth3\r\n"
        "systemvm-preinit: HINT=it has eth0, eth1\r\n[  9.1] more\r\n",
        "does not have the NICs of its boot arguments: there is no NIC eth3",
        "it has eth0, eth1",
    ),
    "an image of before protocol 3": (
        f"{RESET}systemvm-preinit: no boot arguments: none came\r\n  hint: give QEMU a file\r\n",
        "cannot be prepared, for an unknown reason: no boot arguments: none came",
        AGAIN,
    ),
    "emergency mode": (
        f"{RESET}[FAILED] Failed to mount srv.mount - /srv.\r\nYou are in emergency mode. After that\r\n",
        "did not boot: systemd is in emergency mode because srv.mount failed",
        f"{AGAIN}; destroy the VM for a new disk",
    ),
    "out of memory": (
        f"{RESET}[   60.1] Out of memory: Killed process 212 (python3) total-vm:1kB\r\n",
        "has too little memory: the kernel killed python3",
        MORE_MEMORY,
    ),
    "broken disk": (
        f"{RESET}[   60.1] I/O error, dev vda, sector 5 op 0x1:(WRITE) flags 0x800\r\n",
        "cannot use its disk: errors on vda",
        "check the host's disk with dmesg and df; destroy the VM for a new disk",
    ),
    "agent": (
        f"{RESET}systemvm-agent[91]: REASON=agent_cannot_start bad key\r\n",
        "cannot start: bad key",
        AGAIN,
    ),
}


@pytest.mark.parametrize("case", CONSOLES)
def test_serial_log_explains_the_fault(case: str) -> None:
    written, reason, hint = CONSOLES[case]
    earlier = "Kernel panic - not syncing: of an earlier start\n"
    found = serial_log.find_error(earlier + serial_log.start_marker("2026-11-21").decode() + written, NAME)
    assert found is not None
    assert (found.reason, found.hint) == (reason, hint)


def test_serial_log_of_a_good_start_has_no_error() -> None:
    panic = "Kernel panic - not syncing: earlier\n" + serial_log.start_marker("2026-11-21").decode()
    assert serial_log.find_error(panic + RESET, NAME) is None
    assert not serial_log.is_empty(panic + RESET)
    assert serial_log.is_empty(panic)


# --- the diagnosis as a whole


class FakeGuest:
    def __init__(self, output: str | None) -> None:
        self.output = output
        self.files: dict[str, bytes] = {guest_probe.LOADAVG: b"0.10 0.05 0.01 1/90 400\n"}
        self.asked = 0

    async def ping(self, *, timeout_s: float) -> None:
        if self.output is None:
            raise GuestAgentSilentError(f"{NAME}: the guest agent does not answer")

    async def run(self, argv: list[str], *, timeout_s: float) -> CommandResult:
        self.asked += 1
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


def diagnosis_of(world: Any, machines: FakeMachines) -> Diagnosis:
    return Diagnosis(
        world.clock, world.database, world.directory, machines, world.configuration.layout.logs,  # type: ignore[arg-type]
        host_id=world.host_id, address=ADDRESS, port=PORT, unix_clock=lambda: NOW_S,
    )  # fmt: skip


def console_of(world: Any, text: str) -> None:
    path: Path = world.configuration.layout.logs / f"{NAME}.log"
    path.write_bytes(serial_log.start_marker("2026-11-21") + text.encode())


async def rounds(world: Any, diagnosis: Diagnosis, advance_s: float = 0.0) -> AgentStatus:
    await diagnosis.probe()
    world.clock.advance(advance_s)
    await diagnosis.probe()
    await settled(world.database)
    status: AgentStatus = world.directory.agent(NAME).status
    return status


@pytest_twisted.ensureDeferred
async def test_diagnosis_sets_the_status_after_its_grace_period(world: Any) -> None:
    await world.reconciler.scan()
    machines = FakeMachines(guest(dial=("", 124)))
    diagnosis = diagnosis_of(world, machines)
    before = await rounds(world, diagnosis)
    assert (before.state, machines.guest.asked) == (AgentState.CONNECTING, 0)
    found = await rounds(world, diagnosis, BOOT_GRACE_S + 1)
    assert found.reason == FROM_INSIDE["port dropped"][1]
    assert found.state is AgentState.ALERT
    asked = machines.guest.asked
    await rounds(world, diagnosis, 1)
    assert machines.guest.asked == asked, "it is asked at a slow pace"


@pytest_twisted.ensureDeferred
async def test_slow_guest_is_reported_as_busy(world: Any) -> None:
    await world.reconciler.scan()
    machines = FakeMachines(guest())
    machines.guest.files[guest_probe.LOADAVG] = b"9.25 8.00 7.00 6/120 4000\n"
    found = await rounds(world, diagnosis_of(world, machines), BOOT_GRACE_S + 1)
    found = (
        await rounds(world, diagnosis_of(world, machines), BOOT_GRACE_S + 1) if not found.reason else found
    )
    vm = await world.database.read(instances.by_instance_name, NAME)
    finding = await diagnosis_of(world, machines).why(vm)
    assert finding.status is not None
    assert finding.status.reason == "is busy: load 9.2, 6 times slower than at its best"
    assert "NFS" not in finding.status.reason


@pytest_twisted.ensureDeferred
async def test_fault_takes_precedence_over_a_busy_guest(world: Any) -> None:
    await world.reconciler.scan()
    machines = FakeMachines(guest(agent=unit(ActiveState="inactive", Result="success")))
    machines.guest.files[guest_probe.LOADAVG] = b"9.25 8.00 7.00 6/120 4000\n"
    vm = await world.database.read(instances.by_instance_name, NAME)
    finding = await diagnosis_of(world, machines).why(vm)
    assert finding.status is not None
    assert finding.status.reason == FROM_INSIDE["agent stopped"][1]


@pytest_twisted.ensureDeferred
async def test_why_answers_in_time_while_the_hypervisor_does_not(world: Any) -> None:
    await world.reconciler.scan()
    answer: Deferred[str] = Deferred()
    machines = FakeMachines(guest())
    machines.condition = lambda name: answer  # type: ignore[assignment,method-assign,return-value]
    diagnosis = diagnosis_of(world, machines)
    operations = SystemVmOperations(
        world.database, world.directory, None, diagnosis, None, world.configuration.layout.logs, world.clock,  # type: ignore[arg-type]
    )  # fmt: skip
    table = MethodTable("operators", "1")
    operations.add_methods(table)
    call = Call(Caller("uid:0", OPERATOR), "r1", None)

    def why() -> Deferred[Any]:
        method = table.lookup(call, "system_vm.why")
        return Deferred.fromCoroutine(method.run(call, method.read_params({"name": NAME})))

    asked, joined = why(), why()
    await settled(world.database)
    world.clock.advance(FIRST_ANSWER_S)
    assert FIRST_ANSWER_S < 10.0
    first = await asked
    assert (first.name, first.pending, first.looked_at) == (NAME, "its hypervisor", [])
    assert (await joined).pending == "its hypervisor"
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
async def test_console_and_hypervisor_are_examined_without_a_guest_agent(world: Any, case: str) -> None:
    machines, console, reason, hint = HYPERVISOR[case]
    await world.reconciler.scan()
    console_of(world, console)
    diagnosis = diagnosis_of(world, machines)
    await rounds(world, diagnosis)
    assert await rounds(world, diagnosis, BOOT_GRACE_S + 1) == AgentStatus(AgentState.ALERT, reason, hint)


@pytest_twisted.ensureDeferred
async def test_final_error_on_the_console_is_reported_at_once(world: Any) -> None:
    await world.reconciler.scan()
    console_of(world, CONSOLES["no boot arguments"][0])
    status = await rounds(world, diagnosis_of(world, FakeMachines(None)))
    assert status.reason == CONSOLES["no boot arguments"][1]


@pytest.mark.parametrize(
    "check",
    [ControlFailure.WRONG_CA, ControlFailure.EXPIRED, ControlFailure.NOT_YET_VALID, ControlFailure.REVOKED],
)
@pytest_twisted.ensureDeferred
async def test_refusal_takes_precedence_over_a_diagnosis(world: Any, check: ControlFailure) -> None:
    await world.reconciler.scan()
    vm = await world.database.read(instances.by_instance_name, NAME)
    nics = await world.database.read(instances.nics_of, vm.id)
    control = next(nic.address for nic in nics if nic.traffic_type == "control")
    diagnosis = diagnosis_of(world, FakeMachines(guest(dial=("", 124))))
    await rounds(world, diagnosis)
    world.clock.advance(BOOT_GRACE_S)
    await RefusalRecorder(world.database, world.directory, world.clock.seconds).note(
        control, Refusal(check, "told")
    )
    status = await rounds(world, diagnosis, 1)
    assert (status.reason, status.hint) == (f"was refused ({check.value}): told", hint_for(check))


@pytest_twisted.ensureDeferred
async def test_end_before_the_agent_connected_is_explained_by_the_console(world: Any) -> None:
    world.reconciler._last_serial_error = diagnosis_of(world, FakeMachines(None)).last_serial_error
    await world.reconciler.scan()
    console_of(world, CONSOLES["kernel panic"][0])
    world.hypervisor.end(NAME, ExitReason.GUEST_RESET)
    await settled(world.database)
    vm = await world.database.read(instances.by_instance_name, NAME)
    assert vm.state is InstanceState.STOPPED
    assert vm.reason == f"ended: guest-reset: it {CONSOLES['kernel panic'][1]}"
    assert vm.hint == AGAIN
    assert host_state(vm) is HostState.DOWN


# --- ssh to a VM whose agent has said nothing


@pytest_twisted.ensureDeferred
async def test_host_keys_are_read_through_the_guest_agent_before_hello(
    world: Any,
) -> None:
    await world.reconciler.scan()
    vm = await world.database.read(instances.by_instance_name, NAME)
    vm = await world.database.run(instances.update, vm.id, host_keys=["ssh-ed25519 OLD"])
    machines = FakeMachines(guest())
    machines.guest.files[HOST_KEY] = b"ssh-ed25519 NEW root@s-1-VM\n"
    logins = SshAccess(world.database, world.directory, cast(Hypervisor, machines), Path("/key"))
    assert list((await logins.login(vm)).host_keys) == ["ssh-ed25519 NEW"]
    silent = SshAccess(world.database, world.directory, cast(Hypervisor, FakeMachines(None)), Path("/key"))
    assert list((await silent.login(vm)).host_keys) == ["ssh-ed25519 OLD"]
    never = await world.database.run(instances.update, vm.id, host_keys=[])
    with pytest.raises(HypervisorError, match="has no known ssh host keys"):
        await silent.login(never)


# --- CloudStack's words


@pytest.mark.parametrize(
    ("state", "agent", "reason", "word"),
    [
        (InstanceState.STARTING, None, None, HostState.CREATING),
        (InstanceState.STARTING, AgentState.CONNECTING, None, HostState.CONNECTING),
        (InstanceState.RUNNING, None, None, HostState.CONNECTING),
        (InstanceState.RUNNING, AgentState.CONNECTING, None, HostState.CONNECTING),
        (InstanceState.RUNNING, AgentState.UP, None, HostState.UP),
        (InstanceState.RUNNING, AgentState.ALERT, None, HostState.ALERT),
        (InstanceState.RUNNING, AgentState.DISCONNECTED, None, HostState.DISCONNECTED),
        (InstanceState.STOPPING, AgentState.UP, None, HostState.DISCONNECTED),
        (InstanceState.STOPPED, AgentState.UP, "it was stopped on request", HostState.DISCONNECTED),
        (InstanceState.STOPPED, AgentState.DISCONNECTED, "ended: guest-panic", HostState.DOWN),
        (InstanceState.ERROR, AgentState.ALERT, None, HostState.ERROR),
        (InstanceState.DESTROYED, AgentState.UP, None, HostState.REMOVED),
        (InstanceState.EXPUNGING, AgentState.UP, None, HostState.REMOVED),
    ],
)
@pytest_twisted.ensureDeferred
async def test_states_are_those_of_cloudstack(
    world: Any, state: Any, agent: Any, reason: Any, word: Any
) -> None:
    await world.reconciler.scan()
    vm = await world.database.read(instances.by_instance_name, NAME)
    row = await world.database.run(instances.update, vm.id, state=state, agent_state=agent, reason=reason)
    assert host_state(row) is word
    await world.database.drain()


def test_every_state_exists_in_cloudstack() -> None:
    words = "Creating Connecting Up Down Disconnected Alert Removed Error"
    assert {state.value for state in HostState} == set(words.split())
