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
from systemvm.management.api.parameters import ParameterType, only, optional, required
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
from systemvm.management.virtual_machines.machine_checks import check_is_users
from systemvm.management.virtual_machines.passwords import new_password
from systemvm.management.virtual_machines.restoration import (
    MachineRestoration,
    Restoration,
    check,
    root_of,
)

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
                    only("expunge", ParameterType.BOOLEAN, "delete the disk of before at once", True),
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
            value=vm.uuid,
        )
    image = _image(connection, vm, call)
    check(connection, Restoration(vm.id, image.id, "", vm.state is InstanceState.RUNNING), usages)
    return vm, image


def _image(connection: Connection, vm: Instance, call: ApiCall) -> Template:
    root = root_of(connection, vm.id)
    has_template = root.template_id is not None
    if (asked := call.arguments.text("templateid")) is not None:
        image = usable_template(connection, asked, call.principal)
        if None not in (image.arch, vm.arch) and image.arch != vm.arch:
            raise parameter_error(
                "templateid",
                f"Invalid value for parameter templateid: {image.name} is for {image.arch}, and {vm.name} for"
                f" {vm.arch}",
                "choose a template of that architecture; see listTemplates with arch",
            )
        if image.is_iso and has_template:
            raise parameter_error(
                "templateid",
                "Invalid template id provided to restore the VM",
                f"{image.name} is an ISO: choose a template",
            )
        if has_template or image.is_iso:
            return image
        raise parameter_error(
            "templateid",
            "VM has been created using an ISO therefore it can not be re-installed with a template",
            f"{image.name} is a template: choose an ISO",
        )
    own = root.template_id or vm.iso_id
    if own is None:
        raise parameter_error(
            "templateid",
            "Cannot restore the VM since there is no ISO attached to VM",
            "name one with templateid",
        )
    return templates.by_id(connection, own)
