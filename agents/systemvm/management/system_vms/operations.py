# SPDX-License-Identifier: Apache-2.0
"""The methods `system_vm.*` of the daemon's UNIX socket, for operators."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread

from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.delay_messages import explain
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.host_state import explanation_of, host_state
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import AgentState, InstanceState
from systemvm.management.system_vms.diagnosis import Diagnosis
from systemvm.management.system_vms.diagnosis_runner import DiagnosisRun, Finding, Observation
from systemvm.management.system_vms.preparation import AgentPreparation
from systemvm.management.system_vms.secure_shell import SSH_PORT, SshAccess
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.stream.peer_credentials import OPERATORS
from systemvm.wire.agent import CHECK, CheckReport
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.role import Role
from systemvm.wire.slowness import Delay, MachineLoad

CHECK_DEADLINE_S = 110.0
#: Longer than the deadline for reading host keys through the guest agent.
SSH_DEADLINE_S = 55.0
#: `why` answers within ten seconds, however long the diagnosis takes and however busy the host is.
FIRST_ANSWER_S = 6.0
WHY_DEADLINE_S = 30.0
SERIAL_PART_BYTES = 64 * 1024


@frozen
class SystemVmName:
    name: str


@frozen
class CallThrough:
    """A call to forward to an agent, with its parameters unchanged."""

    name: str
    method: str
    params: dict[str, Any] = field(factory=dict)


@frozen
class SshTarget:
    """How to log in; only `host_keys` are to be accepted."""

    user: str
    address: str
    port: int
    key_file: str
    host_keys: list[str]


@frozen
class Why:
    """Why a system VM is not Up; `reason` and `hint` are empty when it is Up without remarks."""

    name: str
    state: str
    agentstate: str
    reason: str
    hint: str
    looked_at: list[Observation]
    pending: str = ""  # the source that is still examined; empty at the end
    load: MachineLoad | None = None  # the busier of the guest's report and this host
    delay: str = ""  # a code of wire.slowness.Delay, or empty


@frozen
class SerialFrom:
    """A request for a part of a serial log: from `offset`, or its end."""

    name: str
    offset: int | None = None


@frozen
class SerialPart:
    path: str
    text: str
    next_offset: int


class SystemVmOperations:
    """The methods `system_vm.*`."""

    def __init__(
        self,
        database: Database,
        directory: AgentDirectory,
        ssh: SshAccess,
        diagnosis: Diagnosis,
        preparations: AgentPreparation,
        logs: Path,
        clock: IReactorTime,
    ) -> None:
        self._clock = clock
        self._database = database
        self._directory = directory
        self._ssh_access = ssh
        self._diagnosis = diagnosis
        self._preparations = preparations
        self._logs = logs

    def add_methods(self, table: MethodTable) -> None:
        table.add(
            "system_vm.rpc",
            self._rpc,
            params=CallThrough,
            result=None,
            roles=OPERATORS,
            summary="Call a method of a system VM's agent",
            deadline_s=600.0,
        )
        table.add(
            "system_vm.ssh",
            self._ssh,
            params=SystemVmName,
            result=SshTarget,
            roles=OPERATORS,
            summary="Return address, port, key file and host keys for ssh",
            deadline_s=SSH_DEADLINE_S,
        )
        table.add(
            "system_vm.why",
            self._why,
            params=SystemVmName,
            result=Why,
            roles=OPERATORS,
            summary="Return why a system VM is not Up, what to do, and what was examined",
            deadline_s=WHY_DEADLINE_S,
        )
        table.add(
            "system_vm.check",
            self._check,
            params=SystemVmName,
            result=CheckReport,
            roles=OPERATORS,
            summary="Run the checks of a system VM",
            deadline_s=CHECK_DEADLINE_S + 5.0,
        )
        table.add(
            "system_vm.serial",
            self._serial,
            params=SerialFrom,
            result=SerialPart,
            roles=OPERATORS,
            summary="Return a part of a system VM's serial log, by default its end",
        )

    async def _rpc(self, call: Call, through: CallThrough) -> Any:
        vm = await self._find(through.name)
        return await self._directory.call(
            vm.instance_name,
            through.method,
            through.params,
            deadline_s=590.0,
            request_id=call.request_id,
        )

    async def _ssh(self, call: Call, target: SystemVmName) -> SshTarget:
        vm = await self._find(target.name)
        if vm.state is not InstanceState.RUNNING:
            raise RpcError(
                NOT_CONNECTED,
                f"{vm.instance_name} is {vm.state.value}",
                {"hint": vm.reason or "wait: it is started again automatically"},
            )
        try:
            login = await self._ssh_access.login(vm)
        except HypervisorError as error:
            raise RpcError(NOT_CONNECTED, error.message, {"hint": error.hint}) from error
        return SshTarget("root", login.address, SSH_PORT, str(login.key_file), list(login.host_keys))

    async def _why(self, call: Call, target: SystemVmName) -> Why:
        """Return what is known within `FIRST_ANSWER_S`; a later call returns the rest."""
        vm = await self._find(target.name)
        agent = self._directory.agent(vm.instance_name)
        run: DiagnosisRun | None = None
        if agent is not None and agent.is_up:
            if agent.role is Role.SSVM:
                run = self._diagnosis.runner.start_or_join(
                    f"stores of {vm.uuid}", lambda running: self._examine_stores(agent, running)
                )
        elif vm.state is InstanceState.RUNNING:
            run = self._diagnosis.diagnose(vm)
        if run is not None:
            await run.wait(self._clock, FIRST_ANSWER_S)
        vm = await self._find(target.name)
        reason, hint = explanation_of(vm)
        if agent is not None and agent.is_up:
            reason, hint = _of_agent(agent.status)  # newer than the row
        elif run is not None and run.finding is not None:
            status = run.finding.status
            if status is not None and not was_refused(agent):
                reason, hint = _of_agent(status)
        load = self._directory.load(vm.instance_name)
        if not reason and load.is_busy:
            reason, hint = _of_agent(AgentStatus(AgentState.UP, *explain(Delay.BUSY, load)))
        return Why(
            vm.instance_name,
            vm.state.value,
            host_state(vm).value,
            reason or "",
            hint or "",
            [] if run is None else list(run.observations),
            pending="" if run is None else run.pending,
            load=load,
            delay=Delay.BUSY.value if load.is_busy else "",
        )

    async def _examine_stores(self, agent: Agent, run: DiagnosisRun) -> Finding:
        run.pending = "its stores"
        try:
            await self._preparations.measure_stores(agent)
        except RpcError as error:  # its connection ended meanwhile: the status has the reason
            run.note("stores", error.message)
        return run.conclude(agent.status)

    async def _check(self, call: Call, target: SystemVmName) -> CheckReport:
        vm = await self._find(target.name)
        report = await self._directory.call(
            vm.instance_name,
            CHECK,
            result=CheckReport,
            deadline_s=CHECK_DEADLINE_S,
            request_id=call.request_id,
        )
        certificate = self._preparations.check_certificate(vm.instance_name)
        return report if certificate is None else evolve(report, steps=[*report.steps, certificate])

    async def _serial(self, call: Call, part: SerialFrom) -> SerialPart:
        vm = await self._find(part.name)
        path = self._logs / f"{vm.instance_name}.log"
        try:
            return await deferToThread(_part, path, part.offset)
        except FileNotFoundError:
            hint = vm.reason or "start it first"
            message = f"{vm.instance_name} has no serial log"
            raise RpcError.refused(CallRefusal.NO_LOG, message, hint) from None

    async def _find(self, name: str) -> Instance:
        try:
            vm = await self._database.read(instances.by_instance_name, name)
        except NotFoundError:
            vm = None
        if vm is None or not vm.type.is_system:
            raise RpcError.refused(
                CallRefusal.NOT_FOUND,
                f"there is no system VM named {name}",
                "see systemvm system-vm list for their names",
            )
        return vm


def _of_agent(status: AgentStatus) -> tuple[str | None, str]:
    return f"Its agent {status.reason}" if status.reason else None, status.hint


def was_refused(agent: Agent | None) -> bool:
    """Return whether the listener refused the agent, which is the more precise reason."""
    return agent is not None and agent.refused_s is not None


def _part(path: Path, offset: int | None) -> SerialPart:
    """Read from `offset`; a log that is shorter was started again, and is read from its beginning."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - SERIAL_PART_BYTES) if offset is None else max(0, offset)
        file.seek(start if start <= size else 0)
        text = file.read(SERIAL_PART_BYTES).decode("utf-8", "replace")
        return SerialPart(str(path), text, file.tell())
