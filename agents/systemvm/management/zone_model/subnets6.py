# SPDX-License-Identifier: Apache-2.0
"""Subnets and ranges of IPv6 as parameters: ip6gateway, ip6cidr, startipv6 and endipv6; pure functions."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

from attrs import evolve

from systemvm.host.zone import address6_in
from systemvm.management.zone_model.refusals import invalid
from systemvm.management.zone_model.subnets import ENDS, Subnet, check_span

#: Of a network in addition, where the last 32 bits of an address are its IPv4 address.
_LONGEST_PREFIX_IN_ADDITION = 96
#: Of a network alone: a router and a system VM, beside the address of all routers.
_LONGEST_PREFIX = 126


def read_subnet6(cidr: str, gateway: str, startipv6: str | None, endipv6: str | None) -> Subnet:
    """Return the subnet of IPv6 alone.

    Raises: ModelError that names the parameter which is wrong.
    """
    network = _network(cidr, _LONGEST_PREFIX)
    router = _router(network, gateway)
    if startipv6 is None and endipv6 is None:
        return Subnet(network, router)
    if startipv6 is None:
        raise invalid("startipv6", "is missing beside endipv6", "send the first address of the range")
    first = read_address6("startipv6", startipv6)
    last = first if endipv6 is None else read_address6("endipv6", endipv6)
    check_span(network, router, first, last)
    return Subnet(network, router, first, last)


def with_ipv6(
    subnet: Subnet, cidr: str | None, gateway: str | None, startipv6: str | None, endipv6: str | None
) -> Subnet:
    """Return a subnet of IPv4 with an IPv6 network in addition, if one is given.

    Raises: ModelError that names the parameter which is wrong.
    """
    if cidr is None:
        given = {"ip6gateway": gateway, "startipv6": startipv6, "endipv6": endipv6}
        for parameter, value in given.items():
            if value is not None:
                raise invalid(parameter, "is given without ip6cidr", "send ip6cidr, too")
        return subnet
    network = _network(cidr, _LONGEST_PREFIX_IN_ADDITION)
    for parameter, text, own in zip(ENDS[6], (startipv6, endipv6), (subnet.first, subnet.last), strict=True):
        if text is None:
            continue
        wanted = address6_in(network, own).ip if isinstance(own, IPv4Address) else None
        if read_address6(parameter, text) != wanted:
            raise invalid(
                parameter,
                f"is not {wanted}: beside IPv4, the last 32 bits of an address are its IPv4 address",
                "omit it; or add a range of IPv6 alone, without gateway, netmask and startip",
            )
    return evolve(subnet, cidr6=network, gateway6=None if gateway is None else _router(network, gateway))


def read_address6(parameter: str, text: str) -> IPv6Address:
    """Return an IPv6 address.

    Raises: ModelError when it is not one, or none that a host can have.
    """
    hint = "write it as 2001:db8:1::100"
    try:
        address = IPv6Address(text.strip())
    except ValueError:
        raise invalid(parameter, f"{text[:64]!r} is not an IPv6 address", hint) from None
    is_of_none = address.is_multicast or address.is_loopback or address.is_unspecified
    if is_of_none or address.is_link_local or address.scope_id is not None or address.ipv4_mapped is not None:
        raise invalid(parameter, f"{address} cannot be the address of a host in a range", hint)
    return address


def _network(text: str, longest_prefix: int) -> IPv6Network:
    hint = "write it as 2001:db8:1::/64"
    try:
        network = IPv6Network(text.strip())
    except ValueError:
        raise invalid("ip6cidr", f"{text[:64]!r} is not an IPv6 network", hint) from None
    if network.prefixlen > longest_prefix:
        raise invalid("ip6cidr", f"{network} is too small", f"the longest prefix is /{longest_prefix}")
    if not network.prefixlen or network.is_multicast or network.is_link_local:
        raise invalid("ip6cidr", f"{network} is not a network of hosts", hint)
    return network


def _router(network: IPv6Network, text: str) -> IPv6Address:
    hint = f"use fe80::1, or an address of {network}"
    try:
        router = IPv6Address(text.strip())
    except ValueError:
        raise invalid("ip6gateway", f"{text[:64]!r} is not an IPv6 address", hint) from None
    if router.scope_id is not None or not (router.is_link_local or router in network):
        raise invalid("ip6gateway", f"{router} is outside of {network}", hint)
    return router
