# SPDX-License-Identifier: Apache-2.0
"""Subnets and ranges as parameters: gateway, netmask, startip and endip; pure functions.

Those of IPv6 are in `subnets6.py`.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from attrs import frozen

from systemvm.host.bridges import VLANS
from systemvm.host.zone import TrafficType
from systemvm.management.state.address_ranges import Address, Network, NetworkRange, Span, spans_of
from systemvm.management.zone_model.refusals import invalid

UNTAGGED = "untagged"
#: Consoles, guests' DHCP and metadata, and what an agent shows of itself are at addresses of IPv4.
_OF_IPV6 = (
    "send startipv6, endipv6, ip6gateway and ip6cidr for addresses of public or storage networks; "
    "management and guest networks need IPv4"
)
_LONGEST_PREFIX = 30
#: The names of a range's ends as parameters, by the family of its addresses.
ENDS = {4: ("startip", "endip"), 6: ("startipv6", "endipv6")}


@frozen
class Subnet:
    """A network, its router, and the addresses that VMs get, if they get any: of IPv4 or of IPv6.

    One of IPv4 can have an IPv6 network in addition.
    """

    cidr: Network
    gateway: Address
    first: Address | None = None
    last: Address | None = None
    cidr6: IPv6Network | None = None
    gateway6: IPv6Address | None = None

    @classmethod
    def of(cls, found: NetworkRange) -> Subnet:
        gateway = found.gateway or found.cidr[1]
        return cls(found.cidr, gateway, found.first, found.last, found.cidr6, found.gateway6)

    @property
    def networks(self) -> list[Network]:
        return [self.cidr] if self.cidr6 is None else [self.cidr, self.cidr6]

    @property
    def spans(self) -> list[Span]:
        """The first and the last address of each family."""
        return spans_of(self.first, self.last, self.cidr6)

    @property
    def columns(self) -> dict[str, str | None]:
        """The values of a row of `address_ranges`."""
        return {
            "cidr": str(self.cidr),
            "gateway": str(self.gateway),
            "first": None if self.first is None else str(self.first),
            "last": None if self.last is None else str(self.last),
            "cidr6": None if self.cidr6 is None else str(self.cidr6),
            "gateway6": None if self.gateway6 is None else str(self.gateway6),
        }


def read_subnet(gateway: str, netmask: str, startip: str | None, endip: str | None) -> Subnet:
    """Return the subnet of these parameters.

    Raises: ModelError that names the parameter which is wrong.
    """
    router = read_address("gateway", gateway)
    cidr = _network(router, netmask)
    if router in (cidr.network_address, cidr.broadcast_address):
        raise invalid("gateway", f"{router} is the network or broadcast address of {cidr}", _usable(cidr))
    if startip is None and endip is None:
        return Subnet(cidr, router)
    if startip is None:
        raise invalid("startip", "is missing beside endip", "send the first address of the range")
    first = read_address("startip", startip)
    last = first if endip is None else read_address("endip", endip)
    check_span(cidr, router, first, last)
    return Subnet(cidr, router, first, last)


def check_span(
    cidr: Network,
    gateway: Address | None,
    first: Address,
    last: Address,
    ends: tuple[str, str] | None = None,
) -> None:
    """Check that a range is one of a subnet, and does not contain its gateway.

    `ends` are the parameters that its ends were sent by.

    Raises: ModelError that names the parameter which is wrong.
    """
    begin, end = ends or ENDS[cidr.version]
    for parameter, address in ((begin, first), (end, last)):
        if address not in cidr or address in _without_host(cidr):
            raise invalid(parameter, f"{address} is not an address of a host in {cidr}", _usable(cidr))
    if int(first) > int(last):
        raise invalid(end, f"{last} is before the first address, {first}", "exchange the two")
    if gateway is not None and gateway in cidr and int(first) <= int(gateway) <= int(last):
        raise invalid(
            begin,
            f"range {first}–{last} contains the gateway {gateway}",
            f"begin after {gateway}, or end before it",
        )


def _without_host(cidr: Network) -> tuple[Address, ...]:
    """Return the addresses that no host has: in IPv6 the first is that of all routers (RFC 4291, 2.6.1)."""
    return (cidr[0], cidr[-1]) if cidr.version == 4 else (cidr[0],)


def read_address(parameter: str, text: str) -> IPv4Address:
    """Return an IPv4 address.

    Raises: ModelError when it is not one, or none that a host can have.
    """
    try:
        address = ip_address(text.strip())
    except ValueError:
        raise invalid(parameter, f"{text[:64]!r} is not an IPv4 address", "write it as 10.11.0.100") from None
    if isinstance(address, IPv6Address):
        raise invalid(parameter, f"{address} is not an IPv4 address", _OF_IPV6)
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_reserved:
        raise invalid(parameter, f"{address} cannot be the address of a host", "write it as 10.11.0.100")
    return address


def _network(gateway: IPv4Address, netmask: str) -> IPv4Network:
    try:
        cidr = IPv4Network(f"{gateway}/{netmask.strip()}", strict=False)
    except ValueError:
        raise invalid("netmask", f"{netmask[:64]!r} is not a netmask", "write it as 255.255.255.0") from None
    if not 1 <= cidr.prefixlen <= _LONGEST_PREFIX or "/" in netmask:
        raise invalid(
            "netmask", f"{netmask[:64]!r} leaves no addresses for hosts", "use 128.0.0.0 to 255.255.255.252"
        )
    # a prefix length or a hostmask would be read, too, and mean something else to other clients
    if str(cidr.netmask) != netmask.strip():
        raise invalid("netmask", f"{netmask[:64]!r} is not a netmask", f"write it as {cidr.netmask}")
    return cidr


def _usable(cidr: Network) -> str:
    return f"use an address from {cidr[1]} to {cidr[-2 if cidr.version == 4 else -1]}"


def read_vlan(given: str | None) -> int | None:
    """Return the VLAN of a range, which clients also write as vlan://100; None when it is untagged.

    Raises: ModelError when it is not a VLAN.
    """
    value = "" if given is None else given.lower().removeprefix("vlan://")
    if value in ("", UNTAGGED):
        return None
    if re.fullmatch("[0-9]{1,4}", value) is None or int(value) not in VLANS:
        raise invalid(
            "vlan",
            f"{str(given)[:64]} is not a VLAN",
            f"use a number from {VLANS[0]} to {VLANS[-1]}, or {UNTAGGED}",
        )
    return int(value)


def check_untagged(given: str | None, kind: TrafficType) -> None:
    """Check that a range has no VLAN: the host's own address on a network of this kind has none.

    Raises: ModelError when it has one.
    """
    vlan = read_vlan(given)
    if vlan is not None:
        raise invalid(
            "vlan",
            f"{vlan} cannot be the VLAN of {kind.value} addresses: this host's own address there is untagged",
            f"send {UNTAGGED}; or give {kind.value} traffic a label of host.yaml whose uplink is in it, "
            f"such as eth0.{vlan}",
        )
