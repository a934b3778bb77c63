# SPDX-License-Identifier: Apache-2.0
"""listNics: the network cards of a VM."""

from __future__ import annotations

from systemvm.management.api.answers.machines import NicAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.commands.machine_answers import nic_answers
from systemvm.management.api.commands.virtual_machines import own_machine
from systemvm.management.api.parameters import ParameterType, only, optional, required
from systemvm.management.state.database import Connection, Database

UUID = ParameterType.UUID
_LIST = (
    required("virtualmachineid", UUID, "the VM"),
    optional("nicid", UUID, "list only the one with this id"),
    optional("networkid", UUID, "list only those on this network; see listNetworks"),
    only("fordisplay", ParameterType.BOOLEAN, "list those that their users see", True),
)


class NicCommands:
    """The handler of this command."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listNics", paged(self._list), "Lists the network cards of a VM.", NicAnswer, "nic",
                ResponseShape.LIST, _LIST, related=("listVirtualMachines",),
            ),
        )  # fmt: skip

    async def _list(self, call: ApiCall) -> list[NicAnswer]:
        arguments = call.arguments
        return [
            nic
            for nic in await self._database.read(_nics, call)
            if arguments.get("nicid", nic.id) == nic.id
            and arguments.get("networkid", nic.networkid) == nic.networkid
            and matches_keyword(arguments, nic.networkname, nic.macaddress)
        ]


def _nics(connection: Connection, call: ApiCall) -> list[NicAnswer]:
    vm = own_machine(connection, call.arguments["virtualmachineid"], call.principal)
    return nic_answers(connection, vm)
