# SPDX-License-Identifier: Apache-2.0
"""migrateSystemVm, scaleSystemVm, changeServiceForSystemVm: checked, and refused as CloudStack refuses them.

The disk of a system VM is a linked clone on its host's own storage, and its size comes from the settings of
its role: there is no offering of system VMs to choose. CloudStack refuses both with these texts
(UserVmManagerImpl.migrateVirtualMachine, VirtualMachineManagerImpl.checkIfCanUpgrade).
"""

from __future__ import annotations

from systemvm.management.api.answers.machines import SystemVmAnswer
from systemvm.management.api.command import ApiCall, Command, Handler, ResponseShape, StartedJob
from systemvm.management.api.commands.system_vms import system_vm
from systemvm.management.api.errors import ApiError, parameter_error
from systemvm.management.api.parameters import Parameter, ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.state import offerings, storage_pools, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.status import InstanceState

UUID, BOOLEAN = ParameterType.UUID, ParameterType.BOOLEAN
_MIGRATE = (
    required("virtualmachineid", UUID, "the system VM"),
    optional("hostid", UUID, "the host to migrate it to"),
    optional("storageid", UUID, "the storage pool to migrate its disk to"),
    optional("autoselect", BOOLEAN, "let the daemon choose the host"),
)
_SCALE = (
    required("id", UUID, "the system VM"),
    required("serviceofferingid", UUID, "an offering of system VMs"),
)


class SystemVmPlacementCommands:
    """Handlers of these commands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        asynchronous = ResponseShape.ASYNC
        return (
            _command(
                "migrateSystemVm", self._migrate, "Migrates a system VM; refused while its disk is local.",
                asynchronous, _MIGRATE,
            ),
            _command(
                "scaleSystemVm", self._scale, "Scales a system VM; its settings decide its size instead.",
                asynchronous, _SCALE, wrapper="changeserviceforsystemvmresponse",
            ),
            _command(
                "changeServiceForSystemVm", self._scale,
                "Changes the offering of a system VM; its settings decide its size instead.",
                ResponseShape.OBJECT, _SCALE,
            ),
        )  # fmt: skip

    async def _migrate(self, call: ApiCall) -> StartedJob:
        raise await self._database.read(_why_not_migrated, call)

    async def _scale(self, call: ApiCall) -> StartedJob:
        raise await self._database.read(_why_not_scaled, call)


def _command(
    name: str,
    handler: Handler,
    description: str,
    shape: ResponseShape,
    parameters: tuple[Parameter, ...],
    wrapper: str = "",
) -> Command:
    return Command(
        name, handler, description, SystemVmAnswer, "systemvm", shape, parameters, ADMIN_ONLY,
        related=("listSystemVms",), wrapper=wrapper,
    )  # fmt: skip


def _why_not_migrated(connection: Connection, call: ApiCall) -> ApiError:
    arguments = call.arguments
    vm = system_vm(connection, arguments["virtualmachineid"])
    if "hostid" in arguments and "storageid" in arguments:
        return parameter_error(
            "storageid", "Only one of hostId and storageId can be specified", "omit one of them"
        )
    if "hostid" in arguments:
        zones.host_rows.by_uuid(connection, arguments["hostid"])
    if "storageid" in arguments:
        storage_pools.rows.by_uuid(connection, arguments["storageid"])
    if "storageid" not in arguments and vm.state is not InstanceState.RUNNING:
        return parameter_error(
            "virtualmachineid", f"VM is not Running, unable to migrate the vm {vm.instance_name}"
        )
    return parameter_error(
        "virtualmachineid",
        "Unsupported operation, VM uses Local storage, cannot migrate",
        f'destroy {vm.instance_name} by "systemvm system-vm destroy": the daemon creates another one',
    )


def _why_not_scaled(connection: Connection, call: ApiCall) -> ApiError:
    vm = system_vm(connection, call.arguments["id"])
    known = offerings.list_service_offerings(connection)
    if offerings.of_vm(vm, known).uuid == call.arguments["serviceofferingid"]:
        return parameter_error("serviceofferingid", f"{vm.instance_name} already has this service offering")
    offerings.service_by_uuid(connection, call.arguments["serviceofferingid"])
    return parameter_error(
        "serviceofferingid",
        "isSystem property is different for current service offering and new service offering",
        "change the size of the role in the zone's file; a system VM that is created later has it",
    )
