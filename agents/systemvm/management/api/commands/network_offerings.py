# SPDX-License-Identifier: Apache-2.0
"""listNetworkOfferings: each zone with a guest network has one, which cannot be chosen or changed."""

from __future__ import annotations

from systemvm.management.api.answers.networks import NetworkOfferingAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, paged
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.zone_parts import NetworksOf, guest_network_offering_of, matching
from systemvm.management.state import zones
from systemvm.management.state.database import Database
from systemvm.management.state.zones import Zone

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

    def __init__(self, database: Database, networks_of: NetworksOf) -> None:
        self._database = database
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
        answers = [_answer(zone) for zone in found if self._networks_of(zone.name).guest is not None]
        return matching(call, answers, *(parameter.name for parameter in _LIST))


def _answer(zone: Zone) -> NetworkOfferingAnswer:
    offering = guest_network_offering_of(zone)
    return NetworkOfferingAnswer(
        id=offering.id,
        name=offering.name,
        displaytext=offering.name,
        zoneid=zone.uuid,
        zone=zone.name,
        traffictype="Guest",
        guestiptype="Shared",
        state="Enabled",
        availability="Required",
        isdefault=True,
        specifyvlan=False,
        specifyipranges=False,
        forvpc=False,
        ispersistent=True,
    )
