# SPDX-License-Identifier: Apache-2.0
"""Finds out why a running system VM has no agent, and sets its `AgentStatus` to the reason.

The sources are queried in this order: the hypervisor (the CPUs of a paused machine do not run), the guest
agent (`guest_probe`) and, when that does not answer, the serial log (`serial_log`). A status that changed
while the diagnosis ran is newer and stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.delay_messages import explain, figures
from systemvm.management.hypervisors import serial_log
from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AgentState, InstanceState
from systemvm.management.system_vms import guest_probe
from systemvm.management.system_vms.diagnosis_runner import DiagnosisRun, DiagnosisRunner, Finding
from systemvm.service.slowness import TimeoutScale, unscaled
from systemvm.wire.slowness import Delay, MachineLoad

PASS_INTERVAL_S = 5.0
#: The delay before a diagnosis after a start and after a lost channel; times the timeout scale.
BOOT_GRACE_S = 45.0
LOSS_GRACE_S = 6.0
RETRY_FIRST_S = 20.0
RETRY_LAST_S = 120.0
#: A refusal by the listener is the most precise reason, and is not replaced for this time.
REFUSED_FOR_S = 120.0
PING_S = 8.0
SCRIPT_S = 60.0
#: Bounds one wait; every step above has a deadline of its own.
_LONGEST_S = 60.0


@define
class _MissingAgent:
    """A running VM whose agent is not connected."""

    since_s: float
    start: object  # identifies the start of the VM
    next_s: float
    pause_s: float = RETRY_FIRST_S
    is_running: bool = False
    reported: AgentStatus | None = None


class Diagnosis:
    """Diagnoses every running system VM without an agent, each with a backoff of its own."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        directory: AgentDirectory,
        hypervisor: Hypervisor,
        logs: Path,
        *,
        host_id: int,
        address: str,
        port: int,
        timeout_scale: TimeoutScale = unscaled,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._database = database
        self._directory = directory
        self._hypervisor = hypervisor
        self._logs = logs
        self._host_id = host_id
        self._address = address
        self._port = port
        self._timeout_scale = timeout_scale
        self._unix_clock = unix_clock
        self._cases: dict[str, _MissingAgent] = {}
        self.runner = DiagnosisRunner(clock)
        self._loop = LoopingCall(self._pass)
        self._loop.clock = clock

    def start(self) -> None:
        self._loop.start(PASS_INTERVAL_S, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def diagnose(self, vm: Instance) -> DiagnosisRun:
        """Start a diagnosis or join the one that runs; it is bounded by deadlines and never fails."""
        return self.runner.start_or_join(vm.uuid, lambda run: self._run_diagnosis(vm, run))

    async def why(self, vm: Instance) -> Finding:
        """Return the result of a diagnosis, and wait for it without a limit of its own."""
        run = self.diagnose(vm)
        while run.finding is None:
            await run.wait(self._clock, _LONGEST_S)
        return run.finding

    async def _run_diagnosis(self, vm: Instance, run: DiagnosisRun) -> Finding:
        name = vm.instance_name
        if vm.state is not InstanceState.RUNNING:
            run.note("virtual machine", f"{vm.state.value}: {vm.reason or ''}".rstrip(": "))
            return run.conclude(None)
        load = self._directory.load(name)
        if load.is_busy:
            run.note("load", figures(load))
        run.pending = "its hypervisor"
        try:
            condition = await self._hypervisor.condition(name)
        except HypervisorError as error:
            run.note("hypervisor", error.message)
        else:
            run.note("hypervisor", condition)
            stopped = _of_condition(condition, name)
            if stopped is not None:
                return run.conclude(stopped)
        run.pending = "its guest agent"
        seen = await self._probe_guest(name, run)
        if seen is not None:
            status = guest_probe.explain(seen, name, self._address, self._port)
            return run.conclude(status or _of_load(max(load, seen.load, key=_slowdown)))
        run.pending = "its serial console"
        text = await deferToThread(serial_log.read_tail, self._path(name))
        run.note("serial console", "\n".join(serial_log.plain_lines(text)[-12:]) or "nothing")
        return run.conclude(_of_console(text, name, self._directory.load(name)))

    async def last_serial_error(self, name: str) -> AgentStatus | None:
        """Return why a machine ended before its agent connected, as its serial console shows it."""
        text = await deferToThread(serial_log.read_tail, self._path(name))
        found = serial_log.find_error(text, name)
        return AgentStatus(AgentState.DISCONNECTED, found.reason, found.hint) if found is not None else None

    # --- the turns

    def _pass(self) -> Deferred[None]:
        turn = Deferred.fromCoroutine(self.probe())
        turn.addErrback(lambda failure: self._log.failure("pass over missing agents failed", failure=failure))
        return turn

    async def probe(self) -> None:
        """Check all system VMs once; long diagnoses continue in the background."""
        if all(agent.peer is not None for agent in self._directory.agents()):
            self._cases.clear()
            return  # no agent is missing, so no row need be read
        missing: set[str] = set()
        for vm in await self._database.read(instances.list_system):
            agent = self._directory.agent(vm.instance_name)
            if vm.host_id != self._host_id or vm.state is not InstanceState.RUNNING:
                continue
            if agent is None or agent.peer is not None:
                continue
            missing.add(vm.uuid)
            case = self._case(vm, agent)
            if case.is_running:
                continue
            if self._clock.seconds() >= case.next_s:
                case.is_running = True
                diagnosing = Deferred.fromCoroutine(self._diagnose(vm, agent, case))
                diagnosing.addErrback(lambda failure: self._log.failure("diagnosis failed", failure=failure))
            elif agent.hello is None and case.reported is None:
                await self._check_console(vm, agent, case)
        for gone in self._cases.keys() - missing:
            del self._cases[gone]

    def _case(self, vm: Instance, agent: Agent) -> _MissingAgent:
        case = self._cases.get(vm.uuid)
        if case is None or case.start != vm.started:
            grace_s = BOOT_GRACE_S if agent.hello is None else LOSS_GRACE_S
            now_s = self._clock.seconds()
            case = _MissingAgent(now_s, vm.started, now_s + grace_s * self._timeout_scale())
            self._cases[vm.uuid] = case
        return case

    async def _check_console(self, vm: Instance, agent: Agent, case: _MissingAgent) -> None:
        """Report an error on the console that is final, without waiting for the grace period."""
        before = agent.status
        text = await deferToThread(serial_log.read_tail, self._path(vm.instance_name))
        found = serial_log.find_error(text, vm.instance_name)
        if found is not None and found.final:
            self._report(agent, case, before, AgentStatus(AgentState.ALERT, found.reason, found.hint))

    async def _diagnose(self, vm: Instance, agent: Agent, case: _MissingAgent) -> None:
        before = agent.status
        try:
            finding = await self.why(vm)
        finally:
            case.is_running = False
            case.next_s = self._clock.seconds() + case.pause_s
            case.pause_s = min(case.pause_s * 2, RETRY_LAST_S)
        if finding.status is not None:
            self._report(agent, case, before, finding.status)
        elif case.reported is not None and agent.status == case.reported:
            text = "is not connected; its last fault has disappeared"
            self._report(
                agent, case, before, AgentStatus(AgentState.ALERT, text, "wait until it dials again")
            )

    def _report(self, agent: Agent, case: _MissingAgent, before: AgentStatus, status: AgentStatus) -> None:
        if self._directory.agent(agent.name) is not agent or agent.peer is not None:
            return
        if agent.status != before:
            return  # the status has changed since the diagnosis began
        refused_s = agent.refused_s
        if refused_s is not None and self._clock.seconds() - refused_s < REFUSED_FOR_S:
            return
        case.reported = status
        self._directory.set_status(agent, status)

    # --- sources

    async def _probe_guest(self, name: str, run: DiagnosisRun) -> guest_probe.GuestProbe | None:
        """Probe the guest; return None when its guest agent does not answer."""
        try:
            guest = self._hypervisor.guest_agent(name)
            await guest.ping(timeout_s=PING_S)
            loadavg = await guest.read_file(  # starts no program: an overloaded guest can still do it
                guest_probe.LOADAVG, limit_bytes=128, timeout_s=PING_S
            )
            run.note("load inside", loadavg.decode("ascii", "replace").strip())
            run.pending = "its units, journal, network and firewall from inside"
            began_s = self._unix_clock()
            done = await guest.run(
                ["/bin/sh", "-c", guest_probe.script(self._address, self._port, self._timeout_scale())],
                timeout_s=SCRIPT_S,
            )
        except HypervisorError as error:
            run.note("guest agent", error.message)
            return None
        probe = guest_probe.parse(done.stdout.decode("utf-8", "replace"), began_s, loadavg)
        for part, answer in probe.parts.items():
            run.note(f"inside: {part}", answer.text or "nothing")
        return probe if probe.parts else None

    def _path(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _of_condition(condition: str, name: str) -> AgentStatus | None:
    match condition:
        case "running":
            return None
        case "io-error":
            return AgentStatus(
                AgentState.ALERT,
                "is halted with its VM: a write to its disk failed: the host's disk is full or broken",
                f"free space on primary storage, then run systemvm system-vm reboot --forced {name}",
            )
        case "guest-panicked":
            return AgentStatus(
                AgentState.ALERT,
                "is gone: its VM's kernel panicked",
                f"see systemvm serial {name}, then run systemvm system-vm reboot --forced {name}",
            )
        case "internal-error":
            return AgentStatus(
                AgentState.ALERT,
                "is halted with its VM: the processor's emulation failed (internal-error)",
                f"see dmesg of the host, then run systemvm system-vm reboot --forced {name}",
            )
    return AgentStatus(
        AgentState.ALERT,
        f"is halted with its VM, which is {condition} and not running",
        f"run systemvm system-vm reboot --forced {name}",
    )


def _slowdown(load: MachineLoad) -> float:
    return load.slowdown


def _of_load(load: MachineLoad) -> AgentStatus | None:
    """Return the status of a machine without a fault that is busy, or None."""
    if not load.is_busy:
        return None
    text = explain(Delay.BUSY, load)
    return AgentStatus(AgentState.ALERT, text.reason, text.hint)


def _of_console(text: str, name: str, load: MachineLoad) -> AgentStatus:
    found = serial_log.find_error(text, name)
    if found is not None:
        return AgentStatus(AgentState.ALERT, found.reason, found.hint)
    if serial_log.is_empty(text):
        return AgentStatus(
            AgentState.ALERT,
            "did not boot: its VM has not written a byte to its serial console",
            "run `make images`, then destroy the VM: the image's kernel might not fit this machine",
        )
    if load.is_busy:
        delay = explain(Delay.BUSY, load)
        reason = f"{delay.reason}; its guest agent has not answered"
        return AgentStatus(AgentState.ALERT, reason, delay.hint)
    return AgentStatus(
        AgentState.ALERT,
        "does not answer, nor does its VM: no answer of its guest agent and no output on its console",
        f"run systemvm system-vm reboot --forced {name}",
    )
