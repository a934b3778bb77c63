# SPDX-License-Identifier: Apache-2.0
"""listNetworkOfferings: for shared networks of each zone, and for isolated and L2 ones where these can be."""

from __future__ import annotations

from contextlib import suppress

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.networks import NetworkOfferingAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, paged
from systemvm.management.api.commands.networks import services_of
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.zone_parts import availability_of, matching, offering_of
from systemvm.management.state import physical_networks, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.status import GuestType
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.isolated_networks import guest_cidr_of
from systemvm.management.zone_model.l2_networks import check_has_vlans
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
#: CloudStack's.
_L2_DISPLAY_TEXT = "Offering for L2 networks with config drive user data"


class NetworkOfferingCommands:
    """The handler of this command."""

    def __init__(self, database: Database, labels: Labels) -> None:
        self._database = database
        self._labels = labels

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listNetworkOfferings", paged(self._list), "Lists what guest networks are made by.",
                NetworkOfferingAnswer, "networkoffering", ResponseShape.LIST, _LIST,
                sortable=("name", "guestiptype"), related=("listNetworks",),
            ),
        )  # fmt: skip

    async def _list(self, call: ApiCall) -> list[NetworkOfferingAnswer]:
        answers = await self._database.read(_answers, self._labels)
        return matching(call, answers, *(parameter.name for parameter in _LIST))


def _answers(connection: Connection, labels: Labels) -> list[NetworkOfferingAnswer]:
    answers = []
    for zone in zones.list_zones(connection):
        if physical_networks.network_of_traffic(connection, zone.id, TrafficType.GUEST) is not None:
            answers.append(_answer(zone, GuestType.SHARED))
        answers += [_answer(zone, each) for each in _types_of_accounts(connection, zone, labels)]
    return answers


def _types_of_accounts(connection: Connection, zone: Zone, labels: Labels) -> list[GuestType]:
    """Return which networks of accounts this host can have."""
    found = []
    for guest_type, check in ((GuestType.ISOLATED, guest_cidr_of), (GuestType.L2, check_has_vlans)):
        with suppress(ModelError, IncompleteZoneError):
            check(connection, zone, labels)
            found.append(guest_type)
    return found


def _answer(zone: Zone, guest_type: GuestType) -> NetworkOfferingAnswer:
    offering, is_shared = offering_of(zone, guest_type), guest_type is GuestType.SHARED
    return NetworkOfferingAnswer(
        id=offering.id,
        name=offering.name,
        displaytext=_L2_DISPLAY_TEXT if guest_type is GuestType.L2 else offering.name,
        zoneid=zone.uuid,
        zone=zone.name,
        traffictype="Guest",
        guestiptype=guest_type.value,
        state="Enabled",
        availability=availability_of(guest_type),
        isdefault=True,
        service=services_of(guest_type),
        specifyvlan=is_shared,
        specifyipranges=is_shared,
        forvpc=False,
        ispersistent=is_shared,
    )
