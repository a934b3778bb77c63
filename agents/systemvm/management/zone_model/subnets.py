# SPDX-License-Identifier: Apache-2.0
"""Subnets and ranges as parameters: gateway, netmask, startip and endip; pure functions."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import frozen

from systemvm.host.bridges import VLANS
from systemvm.host.zone import TrafficType
from systemvm.management.zone_model.refusals import invalid

UNTAGGED = "untagged"
_LONGEST_PREFIX = 30
#: The last 32 bits of an IPv6 address of the range are its IPv4 address.
_LONGEST_PREFIX6 = 96


@frozen
class Subnet:
    """A network, its router, and the addresses that VMs get, if they get any."""

    cidr: IPv4Network
    gateway: IPv4Address
    first: IPv4Address | None = None
    last: IPv4Address | None = None

    @property
    def span(self) -> str:
        return f"{self.first}–{self.last}"

    @property
    def columns(self) -> dict[str, str | None]:
        """The values of a row of `address_ranges`."""
        return {
            "cidr": str(self.cidr),
            "gateway": str(self.gateway),
            "first": None if self.first is None else str(self.first),
            "last": None if self.last is None else str(self.last),
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


def check_span(cidr: IPv4Network, gateway: IPv4Address | None, first: IPv4Address, last: IPv4Address) -> None:
    """Check that a range is one of a subnet, and does not contain its gateway.

    Raises: ModelError that names the parameter which is wrong.
    """
    for parameter, address in (("startip", first), ("endip", last)):
        if address not in cidr or address in (cidr.network_address, cidr.broadcast_address):
            raise invalid(parameter, f"{address} is not an address of a host in {cidr}", _usable(cidr))
    if first > last:
        raise invalid("endip", f"{last} is below startip {first}", "exchange the two")
    if gateway is not None and first <= gateway <= last:
        raise invalid(
            "startip",
            f"range {first}–{last} contains the gateway {gateway}",
            f"begin after {gateway}, or end before it",
        )


def read_address(parameter: str, text: str) -> IPv4Address:
    """Return an IPv4 address.

    Raises: ModelError when it is not one, or none that a host can have.
    """
    try:
        address = IPv4Address(text.strip())
    except ValueError:
        raise invalid(parameter, f"{text[:64]!r} is not an IPv4 address", "write it as 10.11.0.100") from None
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


def _usable(cidr: IPv4Network) -> str:
    return f"use an address from {cidr.network_address + 1} to {cidr.broadcast_address - 1}"


def read_ipv6(cidr: str | None, gateway: str | None) -> tuple[IPv6Network | None, IPv6Address | None]:
    """Return the IPv6 network that a range has in addition, and its router.

    Raises: ModelError that names the parameter which is wrong.
    """
    if cidr is None:
        if gateway is not None:
            raise invalid("ip6gateway", "is given without ip6cidr", "send ip6cidr, too")
        return None, None
    try:
        network = IPv6Network(cidr.strip())
    except ValueError:
        raise invalid(
            "ip6cidr", f"{cidr[:64]!r} is not an IPv6 network", "write it as 2001:db8:1::/64"
        ) from None
    if network.prefixlen > _LONGEST_PREFIX6:
        raise invalid("ip6cidr", f"{network} is too small", f"the longest prefix is /{_LONGEST_PREFIX6}")
    if gateway is None:
        return network, None
    try:
        router = IPv6Address(gateway.strip())
    except ValueError:
        hint = f"use fe80::1, or an address of {network}"
        raise invalid("ip6gateway", f"{gateway[:64]!r} is not an IPv6 address", hint) from None
    if not router.is_link_local and router not in network:
        raise invalid(
            "ip6gateway",
            f"{router} is outside of {network}",
            "use a link-local address or one of the network",
        )
    return network, router


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
