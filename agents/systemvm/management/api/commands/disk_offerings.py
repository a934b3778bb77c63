# SPDX-License-Identifier: Apache-2.0
"""listDiskOfferings, createDiskOffering, updateDiskOffering, deleteDiskOffering."""

from __future__ import annotations

from systemvm.management.api.answers.disk_offerings import DiskOfferingAnswer
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
from systemvm.management.api.parameters import Arguments, optional, required
from systemvm.management.api.zone_parts import matching
from systemvm.management.state import offerings
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.offerings import DiskOffering
from systemvm.management.zone_model import disk_sizes
from systemvm.management.zone_model.ranges import Labels

_LIST = (
    optional("id", UUID, "list only the one with this id"),
    optional("name", STRING, "list only the one with this name"),
    optional("zoneid", UUID, "accepted, but without effect: every zone has all of them"),
    *USABLE_BY,
)


class DiskOfferingCommands:
    """The list, for every account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listDiskOfferings",
                paged(self._list),
                "Lists disk offerings.",
                DiskOfferingAnswer,
                "diskoffering",
                ResponseShape.LIST,
                _LIST,
                sortable=("name", "disksize", "created"),
                related=("createVolume",),
            ),
        )

    async def _list(self, call: ApiCall) -> list[DiskOfferingAnswer]:
        arguments = call.arguments
        await self._database.read(owners_of, call)
        found = await self._database.read(offerings.list_disk_offerings)
        fitting = [_answer(each) for each in found if matches_keyword(arguments, each.name)]
        return matching(call, fitting, "id", "name")


def _create(connection: Connection, arguments: Arguments, labels: Labels) -> DiskOfferingAnswer:
    offering = disk_sizes.create_disk_offering(
        connection,
        name=arguments["name"],
        display_text=arguments.text("displaytext"),
        size_gib=arguments.get("disksize"),
        is_customized=bool(arguments.flag("customized")),
        storage_type=arguments.get("storagetype", offerings.LOCAL),
        provisioning=provisioning_of(arguments),
        tags=arguments.get("tags", ""),
    )
    return _answer(offering)


def _update(connection: Connection, arguments: Arguments, labels: Labels) -> DiskOfferingAnswer:
    found = offerings.disk_by_uuid(connection, arguments["id"])
    updated = disk_sizes.update_disk_offering(
        connection, found, name=arguments.text("name"), display_text=arguments.text("displaytext")
    )
    return _answer(updated)


def _delete(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    found = offerings.disk_by_uuid(connection, arguments["id"])
    disk_sizes.delete_disk_offering(connection, found)
    return found.name


def _answer(offering: DiskOffering) -> DiskOfferingAnswer:
    return DiskOfferingAnswer(
        id=offering.uuid,
        name=offering.name,
        displaytext=offering.display_text,
        disksize=offering.size_gib or 0,
        iscustomized=offering.size_gib is None,
        storagetype=offering.storage_type,
        provisioningtype=offering.provisioning_type,
        tags=offering.tags or None,
        displayoffering=True,
        iscustomizediops=False,
        created=offering.created,
    )


_ID = identity("disk offering", "listDiskOfferings")
DISK_OFFERINGS = (
    ModelCommand(
        "createDiskOffering", "Creates a disk offering, which is a size of data volumes.", "disk offering",
        "DISK.OFFERING.CREATE", Done.CREATED, _create,
        (
            required("name", STRING, "name of the offering"),
            optional("displaytext", STRING, "a description for people; made of name and size by default"),
            optional("disksize", INTEGER, f"size in GiB, 1 to {disk_sizes.MAX_GIB}"),
            optional("customized", BOOLEAN, "whether users choose the size, instead of disksize"),
            STORAGE_TYPE,
            PROVISIONING,
            STORAGE_TAGS,
        ),
        DiskOfferingAnswer, "diskoffering", related=("createVolume",),
    ),
    ModelCommand(
        "updateDiskOffering", "Changes name and description of a disk offering.", "disk offering",
        "DISK.OFFERING.EDIT", Done.UPDATED, _update,
        (
            _ID,
            optional("name", STRING, "the new name"),
            optional("displaytext", STRING, "the new description"),
        ),
        DiskOfferingAnswer, "diskoffering", related=("listDiskOfferings",),
    ),
    ModelCommand(
        "deleteDiskOffering", "Deletes a disk offering; volumes keep their size.", "disk offering",
        "DISK.OFFERING.DELETE", Done.DELETED, _delete, (_ID,), related=("listDiskOfferings",),
    ),
)  # fmt: skip
