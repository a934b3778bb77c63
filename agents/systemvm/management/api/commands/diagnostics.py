# SPDX-License-Identifier: Apache-2.0
"""runDiagnostics and getDiagnosticsData."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import asdict

from systemvm.management.api.answers.diagnostics import DiagnosisAnswer, DiagnosticsDataAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.system_vms import system_vm
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state.database import Database
from systemvm.management.system_vms.diagnostics import DiagnosticsResult
from systemvm.wire.diagnostics import TYPES, DiagnosticsRequestError, check


class DiagnosticsRunner(Protocol):
    """Runs diagnostics in system VMs."""

    async def run(self, vm_uuid: str, kind: str, address: str, params: str) -> DiagnosticsResult: ...
    async def collect(self, vm_uuid: str, files: Sequence[str]) -> Path: ...


class DiagnosticsCommands:
    """Both commands are jobs; `base_url` is the advertised URL below which zips are served."""

    def __init__(self, database: Database, runner: DiagnosticsRunner, jobs: JobRunner, base_url: str) -> None:
        self._database = database
        self._runner = runner
        self._jobs = jobs
        self._base_url = base_url
        jobs.register("runDiagnostics", self._run)
        jobs.register("getDiagnosticsData", self._collect)

    def commands(self) -> tuple[Command, ...]:
        target = required("targetid", ParameterType.UUID, "the system VM")
        return (
            Command(
                "runDiagnostics",
                self._start_run,
                "Runs ping, traceroute or arping in a system VM.",
                DiagnosisAnswer,
                "diagnostics",
                ResponseShape.ASYNC,
                (
                    target,
                    required("ipaddress", ParameterType.STRING, "an address or a host name"),
                    required("type", ParameterType.STRING, "what to run", choices=TYPES),
                    optional(
                        "params",
                        ParameterType.STRING,
                        "further arguments, for example -I eth2; -c 4 or -m 20 by default",
                    ),
                ),
                ADMIN_ONLY,
                related=("listSystemVms",),
            ),
            Command(
                "getDiagnosticsData",
                self._start_collect,
                "Collects logs and states of a system VM in a zip, without secrets.",
                DiagnosticsDataAnswer,
                "diagnostics",
                ResponseShape.ASYNC,
                (
                    target,
                    optional(
                        "files", ParameterType.STRING, "names or paths, separated by commas; all by default"
                    ),
                ),
                ADMIN_ONLY,
                related=("listSystemVms",),
            ),
        )

    async def _start_run(self, call: ApiCall) -> StartedJob:
        vm = await self._database.read(system_vm, call.arguments["targetid"])
        address, params = call.arguments["ipaddress"], call.arguments.get("params", "")
        try:
            check(address, params)
        except DiagnosticsRequestError as error:
            raise parameter_error(error.parameter, error.message) from None
        arguments = {"id": vm.uuid, "type": call.arguments["type"], "address": address, "params": params}
        return await start_job(self._jobs, call, "runDiagnostics", arguments, about="SystemVm", uuid=vm.uuid)

    async def _start_collect(self, call: ApiCall) -> StartedJob:
        vm = await self._database.read(system_vm, call.arguments["targetid"])
        files = [name.strip() for name in call.arguments.get("files", "").split(",") if name.strip()]
        arguments = {"id": vm.uuid, "files": files}
        return await start_job(
            self._jobs, call, "getDiagnosticsData", arguments, about="SystemVm", uuid=vm.uuid
        )

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        diagnosis = await self._runner.run(
            arguments["id"], arguments["type"], arguments["address"], arguments["params"]
        )
        return {"diagnostics": asdict(diagnosis)}

    async def _collect(self, running: RunningJob) -> dict[str, Any]:
        path = await self._runner.collect(running.job.arguments["id"], running.job.arguments["files"])
        return {"diagnostics": {"url": f"{self._base_url}/{path.parent.name}/{path.name}"}}
