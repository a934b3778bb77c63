# SPDX-License-Identifier: Apache-2.0
"""restoreVirtualMachine: a VM's root disk is made anew from its template, or from another one."""

from __future__ import annotations

import uuid
from typing import Any

from systemvm.management.api.answers.machines import VirtualMachineAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.machine_answers import answer_for
from systemvm.management.api.commands.machine_deployment import usable_template
from systemvm.management.api.commands.virtual_machines import own_machine
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.pki.seal import Seal
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.state import templates
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.state.templates import Template
from systemvm.management.virtual_machines.errors import MachineStateError
from systemvm.management.virtual_machines.passwords import new_password
from systemvm.management.virtual_machines.restoration import MachineRestoration, Restoration, check
from systemvm.management.virtual_machines.service import check_is_users

_COMMAND = "restoreVirtualMachine"


class MachineRestorationCommands:
    """The handler of this command, and its job."""

    def __init__(
        self,
        database: Database,
        restoration: MachineRestoration,
        pools: StoragePools,
        jobs: JobRunner,
        seal: Seal,
    ) -> None:
        self._database = database
        self._restoration = restoration
        self._pools = pools
        self._jobs = jobs
        self._seal = seal
        jobs.register(_COMMAND, self._run, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                _COMMAND, self._start,
                "Replaces the root disk of a VM by a new one from its template; its snapshots and the data"
                " volumes stay. A running VM is stopped and started again.",
                VirtualMachineAnswer, "virtualmachine", ResponseShape.ASYNC,
                (
                    required("virtualmachineid", ParameterType.UUID, "the virtual machine"),
                    optional(
                        "templateid", ParameterType.UUID,
                        "another template that is Ready; with an ISO's VM, another ISO",
                    ),
                    optional(
                        "expunge", ParameterType.BOOLEAN,
                        "accepted, but without effect: the disk of before is always deleted at once",
                    ),
                ),
                related=("listVirtualMachines", "listTemplates", "resizeVolume"),
            ),
        )  # fmt: skip

    async def _start(self, call: ApiCall) -> StartedJob:
        usages = await self._pools.usages()
        vm, image = await self._database.read(_checked, call, usages)
        sealed = self._seal.close(new_password()) if image.password_enabled else None
        arguments = {
            "id": vm.id,
            "image": image.id,
            "root": str(uuid.uuid4()),
            "start": vm.state is InstanceState.RUNNING,
        }
        return await start_job(
            self._jobs,
            call,
            _COMMAND,
            arguments,
            about="VirtualMachine",
            uuid=vm.uuid,
            sealed_password=sealed,
        )

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        restoration = Restoration(
            wanted["id"], wanted["image"], wanted["root"], wanted["start"], running.job.sealed_password
        )
        running.progress(10, "Making its root disk anew")
        vm = await self._restoration.restore(restoration, self._pools.usages)
        return {"virtualmachine": plain(await self._database.read(answer_for, vm))}


def _checked(connection: Connection, call: ApiCall, usages: Usages) -> tuple[Instance, Template]:
    """Return the VM of a call, and the template or ISO that it is restored from.

    Raises: ApiError 431 for another image than the VM can have, 401 for one that the caller has no access to;
    MachineError, NoPoolError, ResourceLimitError with the reason when it cannot be restored.
    """
    vm = own_machine(connection, call.arguments["virtualmachineid"], call.principal)
    check_is_users(vm)
    if vm.state not in (InstanceState.RUNNING, InstanceState.STOPPED):
        raise MachineStateError(
            f"Vm {vm.uuid} currently in {vm.state.value} state, restore vm can only execute when VM in"
            " Running or Stopped",
            f"wait until {vm.name} is Running or Stopped; recover it first if it is Destroyed",
        )
    image = _image(connection, vm, call)
    check(connection, Restoration(vm.id, image.id, "", vm.state is InstanceState.RUNNING), usages)
    return vm, image


def _image(connection: Connection, vm: Instance, call: ApiCall) -> Template:
    has_template = vm.template_id is not None
    if (asked := call.arguments.text("templateid")) is not None:
        image = usable_template(connection, asked, call.principal)
        if image.is_iso is has_template:  # CloudStack's messages (UserVmManagerImpl.restoreVMInternal)
            kind, hint = ("template", "choose a template") if has_template else ("ISO", "choose an ISO")
            raise parameter_error(f"Invalid {kind} id provided to restore the VM: {image.name}", hint)
        if not templates.is_in_zone(connection, image, vm.zone_id):
            raise parameter_error(
                f"template {image.name} is not in the zone of {vm.name}",
                "copy it to that zone with copyTemplate",
            )
        return image
    own = vm.template_id or vm.iso_id
    if own is None:
        raise parameter_error(
            "Cannot restore the VM since there is no ISO attached to VM", "name one with templateid"
        )
    return templates.by_id(connection, own)
