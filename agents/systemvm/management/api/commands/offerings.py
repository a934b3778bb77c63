# SPDX-License-Identifier: Apache-2.0
"""listServiceOfferings, createServiceOffering, updateServiceOffering, deleteServiceOffering.

A VM's offering is the one with its size; no two have the same.
"""

from __future__ import annotations

from systemvm.management.api.answers.zones import ServiceOfferingAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.commands.model_commands import Done, ModelCommand
from systemvm.management.api.commands.model_parameters import BOOLEAN, INTEGER, STRING, UUID, identity
from systemvm.management.api.commands.offering_parameters import (
    PROVISIONING,
    STORAGE_TAGS,
    STORAGE_TYPE,
    USABLE_BY,
    provisioning_of,
)
from systemvm.management.api.ownership import owners_of
from systemvm.management.api.parameters import Arguments, only, optional, required
from systemvm.management.state import offerings
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.offerings import ServiceOffering
from systemvm.management.zone_model import sizes
from systemvm.management.zone_model.ranges import Labels

_LIST = (
    optional("id", UUID, "list only the one with this id"),
    optional("name", STRING, "list only the one with this name"),
    optional("issystem", BOOLEAN, "list those of system VMs: there are none to choose from"),
    optional("zoneid", UUID, "accepted, but without effect: every zone has all of them"),
    *USABLE_BY,
)


class OfferingCommands:
    """The list, for every account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listServiceOfferings",
                paged(self._list),
                "Lists service offerings.",
                ServiceOfferingAnswer,
                "serviceoffering",
                ResponseShape.LIST,
                _LIST,
                sortable=("name", "cpunumber", "memory"),
                related=("deployVirtualMachine",),
            ),
        )

    async def _list(self, call: ApiCall) -> list[ServiceOfferingAnswer]:
        arguments = call.arguments
        await self._database.read(owners_of, call)
        if arguments.flag("issystem"):
            return []
        return [
            _answer(offering)
            for offering in await self._database.read(offerings.list_service_offerings)
            if arguments.get("id", offering.uuid) == offering.uuid
            and arguments.get("name", offering.name) == offering.name
            and matches_keyword(arguments, offering.name)
        ]


def _create(connection: Connection, arguments: Arguments, labels: Labels) -> ServiceOfferingAnswer:
    offering = sizes.create_offering(
        connection,
        name=arguments["name"],
        display_text=arguments.text("displaytext"),
        vcpus=arguments["cpunumber"],
        memory_mib=arguments["memory"],
        storage_type=arguments.get("storagetype", offerings.LOCAL),
        provisioning=provisioning_of(arguments),
        tags=arguments.get("tags", ""),
    )
    return _answer(offering)


def _update(connection: Connection, arguments: Arguments, labels: Labels) -> ServiceOfferingAnswer:
    found = offerings.service_by_uuid(connection, arguments["id"])
    updated = sizes.update_offering(
        connection, found, name=arguments.text("name"), display_text=arguments.text("displaytext")
    )
    return _answer(updated)


def _delete(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    found = offerings.service_by_uuid(connection, arguments["id"])
    sizes.delete_offering(connection, found)
    return found.name


def _answer(offering: ServiceOffering) -> ServiceOfferingAnswer:
    return ServiceOfferingAnswer(
        id=offering.uuid,
        name=offering.name,
        displaytext=offering.display_text,
        cpunumber=offering.vcpus,
        cpuspeed=offering.cpu_mhz,
        memory=offering.memory_mib,
        issystem=False,
        defaultuse=False,
        iscustomized=False,
        offerha=False,
        storagetype=offering.storage_type,
        provisioningtype=offering.provisioning_type,
        storagetags=offering.tags or None,
        limitcpuuse=False,
        isvolatile=False,
        iscustomizediops=False,
        dynamicscalingenabled=False,
        created=offering.created,
    )


_ID = identity("service offering", "listServiceOfferings")
OFFERINGS = (
    ModelCommand(
        "createServiceOffering", "Creates a service offering, which is a size of VMs.", "service offering",
        "SERVICE.OFFERING.CREATE", Done.CREATED, _create,
        (
            required("name", STRING, "name of the offering"),
            optional("displaytext", STRING, "a description for people; made of name and size by default"),
            required("cpunumber", INTEGER, f"virtual CPUs, 1 to {sizes.MAX_VCPUS}"),
            required("memory", INTEGER, f"MiB of memory, {sizes.MIN_MEMORY_MIB} to {sizes.MAX_MEMORY_MIB}"),
            only("cpuspeed", INTEGER, "MHz of each CPU", offerings.CPU_MHZ),
            only("issystem", BOOLEAN, "it is for system VMs, whose sizes are settings", False),
            only("isvolatile", BOOLEAN, "give a VM a new disk at every start", False),
            only("offerha", BOOLEAN, "start VMs on another host when theirs fails", False),
            only("customizediops", BOOLEAN, "let users choose the disk's rate", False),
            STORAGE_TYPE,
            PROVISIONING,
            STORAGE_TAGS,
        ),
        ServiceOfferingAnswer, "serviceoffering", related=("deployVirtualMachine",),
    ),
    ModelCommand(
        "updateServiceOffering", "Changes name and description of a service offering.", "service offering",
        "SERVICE.OFFERING.EDIT", Done.UPDATED, _update,
        (
            _ID,
            optional("name", STRING, "the new name"),
            optional("displaytext", STRING, "the new description"),
        ),
        ServiceOfferingAnswer, "serviceoffering", related=("listServiceOfferings",),
    ),
    ModelCommand(
        "deleteServiceOffering", "Deletes a service offering; VMs keep their size.", "service offering",
        "SERVICE.OFFERING.DELETE", Done.DELETED, _delete, (_ID,), related=("listServiceOfferings",),
    ),
)  # fmt: skip
