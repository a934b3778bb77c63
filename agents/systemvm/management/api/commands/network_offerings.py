# SPDX-License-Identifier: Apache-2.0
"""listNetworkOfferings: for shared networks of each zone, and for isolated ones where these can be."""

from __future__ import annotations

from systemvm.management.api.answers.networks import NetworkOfferingAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, paged
from systemvm.management.api.commands.networks import services_of_networks
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.zone_parts import (
    NetworksOf,
    ZonePart,
    guest_network_offering_of,
    isolated_offering_of,
    matching,
)
from systemvm.management.state import zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.status import GuestType
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.isolated_networks import guest_cidr_of
from systemvm.management.zone_model.ranges import Labels
from systemvm.management.zone_model.refusals import ModelError
from systemvm.management.zone_model.system_vm_networks import IncompleteZoneError

UUID, STRING, BOOLEAN = ParameterType.UUID, ParameterType.STRING, ParameterType.BOOLEAN
_LIST = (
    optional("id", UUID, "list only the one with this id"),
    optional("name", STRING, "list only those with this name"),
    optional("displaytext", STRING, "list only those with this description"),
    optional("zoneid", UUID, "list only the one of this zone"),
    optional("traffictype", STRING, "list only those of this traffic type"),
    optional("guestiptype", STRING, "list only those of this type of guest network"),
    optional("state", STRING, "list only those in this state"),
    optional("availability", STRING, "list only those of this availability"),
    optional("isdefault", BOOLEAN, "true: list only default ones; false: only others"),
    optional("specifyvlan", BOOLEAN, "true: list only those that take a VLAN; false: only others"),
    optional("specifyipranges", BOOLEAN, "true: list only those that take ranges; false: only others"),
    optional("forvpc", BOOLEAN, "true: list only those of VPCs; false: only others"),
)


class NetworkOfferingCommands:
    """The handler of this command."""

    def __init__(self, database: Database, networks_of: NetworksOf, labels: Labels) -> None:
        self._database = database
        self._labels = labels
        self._networks_of = networks_of

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listNetworkOfferings", paged(self._list), "Lists what guest networks are made by.",
                NetworkOfferingAnswer, "networkoffering", ResponseShape.LIST, _LIST,
                related=("listNetworks",),
            ),
        )  # fmt: skip

    async def _list(self, call: ApiCall) -> list[NetworkOfferingAnswer]:
        found = await self._database.read(zones.list_zones)
        answers = []
        for zone in found:
            if self._networks_of(zone.name).guest is not None:
                answers.append(_answer(zone, guest_network_offering_of(zone), is_isolated=False))
            if await self._database.read(_has_isolated, zone, self._labels):
                answers.append(_answer(zone, isolated_offering_of(zone), is_isolated=True))
        return matching(call, answers, *(parameter.name for parameter in _LIST))


def _has_isolated(connection: Connection, zone: Zone, labels: Labels) -> bool:
    try:
        guest_cidr_of(connection, zone, labels)
    except (ModelError, IncompleteZoneError):
        return False
    return True


def _answer(zone: Zone, offering: ZonePart, *, is_isolated: bool) -> NetworkOfferingAnswer:
    return NetworkOfferingAnswer(
        id=offering.id,
        name=offering.name,
        displaytext=offering.name,
        zoneid=zone.uuid,
        zone=zone.name,
        traffictype="Guest",
        guestiptype=(GuestType.ISOLATED if is_isolated else GuestType.SHARED).value,
        state="Enabled",
        availability="Optional" if is_isolated else "Required",
        isdefault=True,
        service=services_of_networks(),
        specifyvlan=not is_isolated,
        specifyipranges=not is_isolated,
        forvpc=False,
        ispersistent=not is_isolated,
    )
