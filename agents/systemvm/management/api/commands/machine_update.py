# SPDX-License-Identifier: Apache-2.0
"""updateVirtualMachine: a VM's name for people, and its user data, which getVirtualMachineUserData reads."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

from systemvm.management.api.answers.machines import UserDataAnswer, VirtualMachineAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape
from systemvm.management.api.commands.machine_answers import answer_for
from systemvm.management.api.commands.machine_deployment import display_name
from systemvm.management.api.commands.virtual_machines import own_machine
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.guest_networks.machine_data import has_config_drive
from systemvm.management.state import instances, machine_data
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.virtual_machines.errors import MachineStateError


class MachineUpdateCommands:
    """The handler of this command."""

    def __init__(self, database: Database, send_data: Callable[[int], Awaitable[None]]) -> None:
        self._database = database
        self._send_data = send_data  # by the VM's number

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "updateVirtualMachine", self._update, "Changes a VM's name for people, or its user data.",
                VirtualMachineAnswer, "virtualmachine", ResponseShape.OBJECT,
                (
                    required("id", ParameterType.UUID, "the virtual machine"),
                    optional("displayname", ParameterType.STRING, "the new name for people"),
                    optional(
                        "userdata", ParameterType.BASE64,
                        "what the metadata service answers it from now on, or its next config drive has",
                    ),
                ),
                related=("listVirtualMachines",),
            ),
            Command(
                "getVirtualMachineUserData", self._user_data, "Reads the user data of a VM.",
                UserDataAnswer, "virtualmachineuserdata", ResponseShape.OBJECT,
                (required("virtualmachineid", ParameterType.UUID, "the virtual machine"),),
                related=("updateVirtualMachine",),
            ),
        )  # fmt: skip

    async def _user_data(self, call: ApiCall) -> UserDataAnswer:
        return await self._database.read(_user_data, call)

    async def _update(self, call: ApiCall) -> VirtualMachineAnswer:
        vm = await self._database.run(_update, call)
        if "userdata" in call.arguments:
            await self._send_data(vm.id)
        return await self._database.read(answer_for, vm)


def _user_data(connection: Connection, call: ApiCall) -> UserDataAnswer:
    vm = own_machine(connection, call.arguments["virtualmachineid"], call.principal)
    found = machine_data.user_data_of(connection, vm.id) or b""
    return UserDataAnswer(virtualmachineid=vm.uuid, userdata=base64.b64encode(found).decode())


def _update(connection: Connection, call: ApiCall) -> Instance:
    arguments = call.arguments
    vm = own_machine(connection, arguments["id"], call.principal)
    if "userdata" in arguments:
        if vm.is_driven and vm.state.has_process and has_config_drive(connection, vm.id):
            raise MachineStateError(
                f"user data of {vm.name} cannot be changed: they are on the config drive of its next"
                f" start, and it is {vm.state.value}",
                "stop it first with stopVirtualMachine",
                parameter="userdata",
            )
        machine_data.put_user_data(connection, vm.id, base64.b64decode(arguments["userdata"]))
    if "displayname" in arguments:
        return instances.update(connection, vm.id, display_name=display_name(arguments["displayname"]))
    return vm
