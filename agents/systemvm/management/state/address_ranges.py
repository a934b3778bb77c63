# SPDX-License-Identifier: Apache-2.0
"""Ranges of addresses by zone and traffic type, from which NICs get theirs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.host.zone import TrafficType
from systemvm.management.state import schema
from systemvm.management.state.rows import Rows

UNTAGGED = "untagged"


def _address(text: str | None) -> IPv4Address | None:
    return None if text is None else IPv4Address(text)


def _network6(text: str | None) -> IPv6Network | None:
    return None if text is None else IPv6Network(text)


def _address6(text: str | None) -> IPv6Address | None:
    return None if text is None else IPv6Address(text)


@frozen
class NetworkRange:
    """A subnet on a network, with the addresses that the daemon assigns from it, if it assigns any."""

    id: int
    uuid: str
    zone_id: int
    pod_id: int | None
    traffic_type: TrafficType = field(converter=TrafficType)
    vlan: int | None
    cidr: IPv4Network = field(converter=IPv4Network)
    gateway: IPv4Address | None = field(converter=_address)
    first: IPv4Address | None = field(converter=_address)
    last: IPv4Address | None = field(converter=_address)
    cidr6: IPv6Network | None = field(converter=_network6)
    gateway6: IPv6Address | None = field(converter=_address6)
    for_system_vms: bool
    guest_network_id: int | None
    created: datetime
    removed: datetime | None

    @property
    def vlan_text(self) -> str:
        return UNTAGGED if self.vlan is None else str(self.vlan)

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return 0 if self.first is None or self.last is None else int(self.last) - int(self.first) + 1

    def __contains__(self, address: IPv4Address) -> bool:
        return self.first is not None and self.last is not None and self.first <= address <= self.last

    def address6(self, address: IPv4Address) -> IPv6Interface | None:
        """Return the IPv6 address for one of its addresses; None when it has no IPv6."""
        if self.cidr6 is None:
            return None
        own = IPv6Address(int(self.cidr6.network_address) + int(address))
        return IPv6Interface((own, self.cidr6.prefixlen))


rows = Rows(schema.address_ranges, NetworkRange, "IP range")
by_id = rows.by_id
by_uuid = rows.by_uuid


def list_ranges(
    connection: sa.Connection,
    zone_id: int | None = None,
    traffic_type: TrafficType | None = None,
    pod_id: int | None = None,
) -> list[NetworkRange]:
    """Return ranges, the oldest first."""
    c = schema.address_ranges.c
    where: list[sa.ColumnElement[bool]] = [c.removed.is_(None)]
    where += [] if zone_id is None else [c.zone_id == zone_id]
    where += [] if traffic_type is None else [c.traffic_type == traffic_type.value]
    where += [] if pod_id is None else [c.pod_id == pod_id]
    return rows.all(connection, *where)


def used_counts(connection: sa.Connection, ranges: Sequence[NetworkRange]) -> dict[int, int]:
    """Return how many addresses of each range are in use, by one query for all of them."""
    c = schema.ip_addresses.c
    query = sa.select(c.zone_id, c.traffic_type, c.address)
    query = query.where(c.traffic_type.in_({each.traffic_type.value for each in ranges}))
    query = query.where(c.zone_id.in_({each.zone_id for each in ranges}))
    taken: dict[tuple[int, str], list[int]] = {}
    for zone_id, traffic_type, address in connection.execute(query):
        taken.setdefault((zone_id, traffic_type), []).append(int(IPv4Address(address)))
    for numbers in taken.values():
        numbers.sort()

    def used(each: NetworkRange) -> int:
        if each.first is None or each.last is None:
            return 0
        numbers = taken.get((each.zone_id, each.traffic_type.value), [])
        return bisect_right(numbers, int(each.last)) - bisect_left(numbers, int(each.first))

    return {each.id: used(each) for each in ranges}


def used_addresses(connection: sa.Connection, of: NetworkRange) -> list[IPv4Address]:
    """Return the addresses of a range that VMs have, the lowest first."""
    c = schema.ip_addresses.c
    query = sa.select(c.address).where(c.zone_id == of.zone_id, c.traffic_type == of.traffic_type.value)
    taken = (IPv4Address(text) for text in connection.execute(query).scalars())
    return sorted(address for address in taken if address in of)
