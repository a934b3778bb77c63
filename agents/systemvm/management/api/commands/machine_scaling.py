# SPDX-License-Identifier: Apache-2.0
"""scaleVirtualMachine and changeServiceForVirtualMachine: another service offering for a Stopped VM."""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.machines import VirtualMachineAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.machine_answers import answer_for
from systemvm.management.api.commands.machine_deployment import offering_of
from systemvm.management.api.commands.virtual_machines import own_machine
from systemvm.management.api.envelope import plain
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import Parameter, ParameterType, only, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import offerings
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.offerings import ServiceOffering
from systemvm.management.virtual_machines import scaling
from systemvm.management.virtual_machines.errors import NotScalableError
from systemvm.management.virtual_machines.service import VirtualMachines

_SCALE, _CHANGE = "scaleVirtualMachine", "changeServiceForVirtualMachine"


class MachineScalingCommands:
    """The handlers of both commands, and the job of the first."""

    def __init__(self, database: Database, machines: VirtualMachines, jobs: JobRunner) -> None:
        self._database = database
        self._machines = machines
        self._jobs = jobs
        jobs.register(_SCALE, self._run, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        related = ("listServiceOfferings", "listVirtualMachines", "stopVirtualMachine")
        return (
            Command(
                _SCALE, self._scale,
                "Gives a Stopped VM another service offering, which it has from its next start.",
                VirtualMachineAnswer, "virtualmachine", ResponseShape.ASYNC,
                (
                    *_parameters(),
                    only("automigrate", ParameterType.BOOLEAN, "move its volumes to fit the offering", False),
                    only("shrinkok", ParameterType.BOOLEAN, "let its root disk become smaller", False),
                ),
                related=related,
            ),
            Command(
                _CHANGE, self._change,
                "Gives a Stopped VM another service offering, and answers the VM.",
                VirtualMachineAnswer, "virtualmachine", ResponseShape.OBJECT,
                _parameters(), related=related,
            ),
        )  # fmt: skip

    async def _scale(self, call: ApiCall) -> StartedJob:
        vm, offering = await self._database.read(_checked, call)
        job = {"id": vm.id, "offering": offering.id}
        return await start_job(self._jobs, call, _SCALE, job, about="VirtualMachine", uuid=vm.uuid)

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        offering = await self._database.read(offerings.service_rows.by_id, wanted["offering"])
        vm = await self._machines.scale(wanted["id"], offering)
        return {"virtualmachine": plain(await self._database.read(answer_for, vm))}

    async def _change(self, call: ApiCall) -> VirtualMachineAnswer:
        vm, offering = await self._database.read(_checked, call)
        return await self._database.read(answer_for, await self._machines.scale(vm.id, offering))


def _parameters() -> tuple[Parameter, ...]:
    return (
        required("id", ParameterType.UUID, "the virtual machine"),
        required("serviceofferingid", ParameterType.UUID, "the new offering; see listServiceOfferings"),
    )


def _checked(connection: Connection, call: ApiCall) -> tuple[Instance, ServiceOffering]:
    """Return the VM of a call and its new offering.

    Raises: MachineStateError when the VM is not Stopped, NotScalableError when it has the offering already or
    its root disk is not where the offering wants it.
    """
    arguments = call.arguments
    vm = own_machine(connection, arguments["id"], call.principal)
    offering = offering_of(connection, arguments["serviceofferingid"])
    scaling.check(connection, vm, offering)
    if (vm.vcpus, vm.memory_mib) == (offering.vcpus, offering.memory_mib):
        raise NotScalableError(
            f"Not upgrading vm {vm.name} since it already has the requested service offering"
            f" ({offering.name})",
            "choose another offering",
            parameter="serviceofferingid",
        )
    return vm, offering
