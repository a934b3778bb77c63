# SPDX-License-Identifier: Apache-2.0
"""attachIso, detachIso: the ISO in a VM's CD drive, while it runs or for its next start."""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.machines import VirtualMachineAnswer
from systemvm.management.api.command import ApiCall, Command, Handler, ResponseShape, StartedJob
from systemvm.management.api.commands.machine_answers import answer_for
from systemvm.management.api.commands.machine_deployment import usable_template
from systemvm.management.api.commands.virtual_machines import own_machine
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import Parameter, ParameterType, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import accounts, template_permissions
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.templates import Template
from systemvm.management.virtual_machines.iso_drive import IsoDrives, check_state, check_usable

_MACHINE = required("virtualmachineid", ParameterType.UUID, "the VM, Running or Stopped")


class MachineIsoCommands:
    """Handlers of these commands."""

    def __init__(self, database: Database, drives: IsoDrives, jobs: JobRunner) -> None:
        self._database = database
        self._drives = drives
        self._jobs = jobs
        jobs.register("attachIso", self._run_attach, resumes=True)
        jobs.register("detachIso", self._run_detach, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            self._asynchronous(
                "attachIso",
                self._attach,
                "Puts an ISO into the CD drive of a VM: at once when it runs, else at its next start.",
                required("id", ParameterType.UUID, "the ISO; see listIsos"),
                _MACHINE,
                optional("forced", ParameterType.BOOLEAN, "eject another ISO, even if the guest uses it"),
                related=("listIsos", "listVirtualMachines"),
            ),
            self._asynchronous(
                "detachIso",
                self._detach,
                "Takes the ISO out of the CD drive of a VM.",
                _MACHINE,
                optional("forced", ParameterType.BOOLEAN, "eject it even if the guest uses it"),
                related=("listVirtualMachines",),
            ),
        )

    @staticmethod
    def _asynchronous(
        name: str, handler: Handler, description: str, *parameters: Parameter, related: tuple[str, ...]
    ) -> Command:
        return Command(
            name,
            handler,
            description,
            VirtualMachineAnswer,
            "virtualmachine",
            ResponseShape.ASYNC,
            parameters,
            related=related,
        )

    async def _attach(self, call: ApiCall) -> StartedJob:
        vm, iso = await self._database.read(_machine_and_iso, call)
        return await self._start(call, "attachIso", vm, iso_id=iso.id)

    async def _detach(self, call: ApiCall) -> StartedJob:
        vm = await self._database.read(own_machine, call.arguments["virtualmachineid"], call.principal)
        if vm.iso_id is None:
            raise parameter_error("virtualmachineid", "The specified instance has no ISO attached to it.")
        check_state(vm)
        return await self._start(call, "detachIso", vm)

    async def _start(self, call: ApiCall, command: str, vm: Instance, **more: Any) -> StartedJob:
        arguments = {"id": vm.id, "forced": call.arguments.flag("forced")} | more
        return await start_job(self._jobs, call, command, arguments, about="VirtualMachine", uuid=vm.uuid)

    async def _run_attach(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        running.progress(10, "Copying the ISO to the host")
        return await self._result(
            await self._drives.attach(wanted["id"], wanted["iso_id"], forced=wanted["forced"])
        )

    async def _run_detach(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        return await self._result(await self._drives.detach(wanted["id"], forced=wanted["forced"]))

    async def _result(self, vm: Instance) -> dict[str, Any]:
        return {"virtualmachine": plain(await self._database.read(answer_for, vm))}


def _machine_and_iso(connection: Connection, call: ApiCall) -> tuple[Instance, Template]:
    """Return the VM and the ISO of a call.

    Raises: ApiError 401 when the caller, or the owner of the VM, has no access, 431 for a template,
    IsoNotUsableError for an ISO that is not Ready in the VM's zone.
    """
    vm = own_machine(connection, call.arguments["virtualmachineid"], call.principal)
    iso = usable_template(connection, call.arguments["id"], call.principal)
    if not iso.is_iso:
        raise parameter_error("id", f"id: {iso.name} is a template", "choose one of listIsos")
    _check_owner_may_use(connection, vm, iso)
    check_state(vm)
    check_usable(connection, iso, vm.zone_id)
    return vm, iso


def _check_owner_may_use(connection: Connection, vm: Instance, iso: Template) -> None:
    """CloudStack's rule (TemplateManagerImpl.attachIso): an administrator does not show it to the owner."""
    owner = accounts.account_by_id(connection, vm.account_id)
    is_shared = template_permissions.is_shared(connection, iso.id, owner.id)
    if not (iso.public or is_shared or iso.account_id == owner.id or owner.is_admin):
        raise unauthorized(
            f"account {owner.name}, which owns {vm.name}, must not use ISO {iso.name}", value=iso.uuid
        )
