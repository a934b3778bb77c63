# SPDX-License-Identifier: Apache-2.0
"""The guest network of a zone, which has an id in CloudStack but no row, and the choice among answers.

Its id is derived from the zone's UUID, so that it is the same after every restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

from systemvm.management.api.command import ApiCall, matches_keyword
from systemvm.management.state import address_ranges
from systemvm.management.state.database import Connection
from systemvm.management.state.status import GuestType
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.file_import import part_id


@frozen
class ZonePart:
    """A part of a zone: its UUID and its name."""

    id: str
    name: str


def guest_network_of(zone: Zone) -> ZonePart:
    return ZonePart(part_id(zone.uuid, "guest network"), f"{zone.name}-guest")


def guest_network_offering_of(zone: Zone) -> ZonePart:
    return ZonePart(part_id(zone.uuid, "guest network offering"), "Shared guest network")


def isolated_offering_of(zone: Zone) -> ZonePart:
    """Return the offering of isolated networks, by CloudStack's name."""
    return ZonePart(part_id(zone.uuid, "isolated network offering"), "DefaultIsolatedNetworkOffering")


def l2_offering_of(zone: Zone) -> ZonePart:
    """Return the offering of L2 networks whose VMs have config drives, by CloudStack's name."""
    return ZonePart(part_id(zone.uuid, "L2 network offering"), "DefaultL2NetworkOfferingConfigDrive")


def offering_of(zone: Zone, guest_type: GuestType) -> ZonePart:
    """Return the offering that networks of a type are made by."""
    of_type = {
        GuestType.SHARED: guest_network_offering_of,
        GuestType.ISOLATED: isolated_offering_of,
        GuestType.L2: l2_offering_of,
    }
    return of_type[guest_type](zone)


def availability_of(guest_type: GuestType) -> str:
    """Return whether a zone must have the offering of networks of a type."""
    return "Required" if guest_type is GuestType.SHARED else "Optional"


def has_own_network(connection: Connection, zone: Zone) -> bool:
    """Whether the zone has a guest network that createNetwork has not made."""
    return bool(address_ranges.of_guest_network(connection, zone.id, None))


def matching(
    call: ApiCall, answers: Iterable[Any], *names: str, searched: Sequence[str] = ("name",), **keys: str
) -> list[Any]:
    """Return the answers whose keys `names` have the values that the call gives, whatever their case.

    `keyword` is looked for in the keys `searched`; `keys` are parameters whose keys in the answer have other
    names.
    """
    by_parameter = {name: name for name in names} | keys
    return [answer for answer in answers if _matches(call, answer, by_parameter, searched)]


def _matches(call: ApiCall, answer: Any, keys: dict[str, str], searched: Sequence[str]) -> bool:
    for name, key in keys.items():
        wanted, found = call.arguments.get(name), getattr(answer, key)
        if isinstance(wanted, str) and isinstance(found, str):
            wanted, found = wanted.lower(), found.lower()
        if wanted is not None and wanted != found:
            return False
    texts = [getattr(answer, name, None) for name in searched]
    return matches_keyword(call.arguments, *(None if text is None else str(text) for text in texts))
