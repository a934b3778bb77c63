# SPDX-License-Identifier: Apache-2.0
"""Ranges of addresses by zone and traffic type, from which NICs get theirs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.host.zone import TrafficType, address6_in
from systemvm.management.state import schema
from systemvm.management.state.rows import Rows

UNTAGGED = "untagged"

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
#: The first and the last address.
Span = tuple[Address, Address]


def _network(text: str) -> Network:
    return ip_network(text)


def _address(text: str | None) -> Address | None:
    return None if text is None else ip_address(text)


def _network6(text: str | None) -> IPv6Network | None:
    return None if text is None else IPv6Network(text)


def _address6(text: str | None) -> IPv6Address | None:
    return None if text is None else IPv6Address(text)


def spans_of(first: Address | None, last: Address | None, cidr6: IPv6Network | None) -> list[Span]:
    """Return the addresses of a range, and those that it has in addition in an IPv6 network."""
    if first is None or last is None:
        return []
    found: list[Span] = [(first, last)]
    if cidr6 is not None and isinstance(first, IPv4Address) and isinstance(last, IPv4Address):
        found.append((address6_in(cidr6, first).ip, address6_in(cidr6, last).ip))
    return found


#: A client's number has 64 bits, and a /64 has more addresses.
MAX_TOTAL = (1 << 63) - 1


@frozen
class NetworkRange:
    """A subnet on a network, with the addresses that the daemon assigns from it, if it assigns any.

    The subnet and its addresses are of either family. One of IPv4 can have IPv6 in addition.
    """

    id: int
    uuid: str
    zone_id: int
    pod_id: int | None
    traffic_type: TrafficType = field(converter=TrafficType)
    vlan: int | None
    cidr: Network = field(converter=_network)
    gateway: Address | None = field(converter=_address)
    first: Address | None = field(converter=_address)
    last: Address | None = field(converter=_address)
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

    @property
    def span_text(self) -> str:
        """Its addresses, or the subnet of a range without any."""
        return f"{self.first}–{self.last}" if self.size else str(self.cidr)

    @property
    def is_ipv6(self) -> bool:
        """Whether it has addresses of IPv6 only."""
        return self.cidr.version == 6

    @property
    def spans(self) -> list[Span]:
        """The first and the last address of each family."""
        return spans_of(self.first, self.last, self.cidr6)

    def __contains__(self, address: Address) -> bool:
        if self.first is None or self.last is None or address.version != self.cidr.version:
            return False
        return int(self.first) <= int(address) <= int(self.last)

    def address6(self, address: Address) -> IPv6Interface | None:
        """Return the IPv6 address that goes with one of its addresses; None when it has no IPv6."""
        if isinstance(address, IPv6Address):
            return IPv6Interface((address, self.cidr.prefixlen))
        return None if self.cidr6 is None else address6_in(self.cidr6, address)


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


def of_guest_network(connection: sa.Connection, zone_id: int, network_id: int | None) -> list[NetworkRange]:
    """Return the ranges of a guest network, the oldest first; with None those of the zone's own."""
    c = schema.address_ranges.c
    return rows.all(
        connection,
        c.removed.is_(None),
        c.zone_id == zone_id,
        c.traffic_type == TrafficType.GUEST.value,
        c.guest_network_id.is_not_distinct_from(network_id),
    )


def used_counts(connection: sa.Connection, ranges: Sequence[NetworkRange]) -> dict[int, int]:
    """Return how many addresses of each range are in use, by one query for all of them."""
    c = schema.ip_addresses.c
    query = sa.select(c.zone_id, c.traffic_type, c.address)
    query = query.where(c.traffic_type.in_({each.traffic_type.value for each in ranges}))
    query = query.where(c.zone_id.in_({each.zone_id for each in ranges}))
    taken: dict[tuple[int, str, int], list[int]] = {}
    for zone_id, traffic_type, text in connection.execute(query):
        address = ip_address(text)
        taken.setdefault((zone_id, traffic_type, address.version), []).append(int(address))
    for numbers in taken.values():
        numbers.sort()

    def used(each: NetworkRange) -> int:
        if each.first is None or each.last is None:
            return 0
        numbers = taken.get((each.zone_id, each.traffic_type.value, each.cidr.version), [])
        return bisect_right(numbers, int(each.last)) - bisect_left(numbers, int(each.first))

    return {each.id: used(each) for each in ranges}


def total(ranges: Iterable[NetworkRange]) -> int:
    """Return how many addresses ranges have, as clients can read it."""
    return min(sum(each.size for each in ranges), MAX_TOTAL)


def used_addresses(connection: sa.Connection, of: NetworkRange) -> list[Address]:
    """Return the addresses of a range that VMs have, the lowest first."""
    c = schema.ip_addresses.c
    query = sa.select(c.address).where(c.zone_id == of.zone_id, c.traffic_type == of.traffic_type.value)
    taken = (ip_address(text) for text in connection.execute(query).scalars())
    return sorted((address for address in taken if address in of), key=int)
