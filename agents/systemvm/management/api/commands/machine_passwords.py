# SPDX-License-Identifier: Apache-2.0
"""resetPasswordForVirtualMachine: a new password for a VM that is Stopped."""

from __future__ import annotations

from functools import partial
from typing import Any

from systemvm.management.api.answers.machines import VirtualMachineAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.machine_answers import answer_for
from systemvm.management.api.commands.machine_deployment import new_or_asked_password
from systemvm.management.api.commands.virtual_machines import own_machine
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.pki.seal import Seal
from systemvm.management.state import templates
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.virtual_machines.errors import MachineStateError
from systemvm.management.virtual_machines.service import VirtualMachines


class MachinePasswordCommands:
    """The handler of this command."""

    def __init__(self, database: Database, machines: VirtualMachines, jobs: JobRunner, seal: Seal) -> None:
        self._database = database
        self._machines = machines
        self._jobs = jobs
        self._seal = seal
        jobs.register("resetPasswordForVirtualMachine", self._run, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "resetPasswordForVirtualMachine",
                self._reset,
                "Gives a Stopped VM a new password, which its guest takes at its next start.",
                VirtualMachineAnswer,
                "virtualmachine",
                ResponseShape.ASYNC,
                (
                    required("id", ParameterType.UUID, "the virtual machine"),
                    optional("password", ParameterType.STRING, "the new one; a random one by default"),
                ),
                related=("listVirtualMachines",),
            ),
        )

    async def _reset(self, call: ApiCall) -> StartedJob:
        vm = await self._database.read(_machine_with_password, call)
        # the job's arguments are kept in clear text
        sealed = self._seal.close(new_or_asked_password(call.arguments))
        return await start_job(
            self._jobs,
            call,
            "resetPasswordForVirtualMachine",
            {"id": vm.id},
            about="VirtualMachine",
            uuid=vm.uuid,
            sealed_password=sealed,
        )

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        sealed = running.job.sealed_password
        if sealed is None:  # it is kept until the job has ended
            raise RuntimeError(f"job {running.job.uuid} has no password")
        begins = partial(running.begin, text="The guest takes the password at its next start")
        vm = await self._machines.reset_password(running.job.arguments["id"], sealed, begins)
        return {"virtualmachine": plain(await self._database.read(answer_for, vm))}


def _machine_with_password(connection: Connection, call: ApiCall) -> Instance:
    """Return the VM of a call.

    Raises: ApiError 431 when its template takes no passwords, MachineStateError when it is gone, both in
    CloudStack's words (UserVmManagerImpl.resetVMPassword).
    """
    vm = own_machine(connection, call.arguments["id"], call.principal)
    if vm.template_id is None or not templates.by_id(connection, vm.template_id).password_enabled:
        raise parameter_error(
            "id",
            "Fail to reset password for the virtual machine, the template is not password enabled",
            "set passwordenabled of the template with updateTemplate",
        )
    if vm.state.is_gone:
        raise MachineStateError(
            "vm is not in the right state", f"{vm.name} is {vm.state.value}", value=vm.uuid
        )
    return vm
