# SPDX-License-Identifier: Apache-2.0
"""The text of dnsmasq's files for one bridge; pure functions.

Every address is a static one: dnsmasq answers a MAC that it knows, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from attrs import frozen

from systemvm.host.guest_services import (
    DATA_SERVER,
    DHCP_WORDS,
    METADATA_ADDRESS,
    Guest,
    GuestBridge,
    GuestSubnet,
)

#: dnsmasq reads these fields of a line as a word of its own or as the time of a lease.
_NO_NAME = re.compile(rf"{'|'.join(sorted(DHCP_WORDS))}|[0-9]+[smhdw]?")
_LEASE = "24h"
_NO_ROUTER = "no-router"
#: By these a machine reaches the metadata service past its router: RFC 3442's, and Windows' name of it.
_ROUTE_OPTIONS = ("option:classless-static-route", "249")

#: This host's address in each subnet of the bridge.
OwnAddresses = Mapping[IPv4Network, IPv4Address]


@frozen
class DnsmasqFiles:
    """What dnsmasq reads: the configuration at its start, the rest again at each SIGHUP."""

    configuration: str
    dhcp_hosts: str
    names: str


def files_of(bridge: GuestBridge, own: OwnAddresses, directory: Path) -> DnsmasqFiles:
    """Return the files of a bridge; those for a subnet without an address of this host are left out."""
    served = [subnet for subnet in bridge.subnets if subnet.cidr in own]
    lines = [
        f"interface={bridge.bridge}",
        "except-interface=lo",
        "bind-interfaces",
        f"pid-file={directory / 'pid'}",
        # names: of the machines, and of the zone's name servers
        "no-hosts",
        "no-resolv",
        "domain-needed",
        "bogus-priv",
        "cache-size=1000",
        f"addn-hosts={directory / 'names'}",
        *(f"server={server}" for server in bridge.name_servers),
        # leases: of the machines only
        "dhcp-authoritative",
        "dhcp-ignore=tag:!known",
        "dhcp-lease-max=65536",
        f"dhcp-hostsfile={directory / 'dhcp-hosts'}",
        f"dhcp-leasefile={directory / 'leases'}",
        f"dhcp-option=tag:{_NO_ROUTER},option:router",
        "no-ping",
    ]
    # not the whole domain: the zone's name servers can have other names of it
    lines += [f"local=/{name}/" for name in sorted({*map(_data_server, bridge.subnets)})]
    for number, subnet in enumerate(served):
        tag = f"subnet{number}"
        lines += [
            f"dhcp-range=set:{tag},{subnet.cidr.network_address},static,{subnet.cidr.netmask},{_LEASE}",
            f"domain={subnet.domain},{subnet.cidr}",
            f"dhcp-option=tag:{tag},option:dns-server,{own[subnet.cidr]}",
            # without a value, so that dnsmasq does not name itself as the router
            f"dhcp-option=tag:{tag},tag:!{_NO_ROUTER},option:router"
            + (f",{subnet.gateway}" if subnet.gateway else ""),
            *(
                f"dhcp-option=tag:{tag},tag:!{_NO_ROUTER},{option},{_routes(subnet, own[subnet.cidr])}"
                for option in _ROUTE_OPTIONS
            ),
        ]
    here = [guest for subnet in served for guest in subnet.guests if guest.is_here]
    return DnsmasqFiles(
        "\n".join(lines) + "\n",
        "".join(map(_dhcp_host, here)),
        "".join(_names(bridge, own)),
    )


def _routes(subnet: GuestSubnet, own: IPv4Address) -> str:
    """Return the routes of a machine; who takes them looks at no other option for its router (RFC 3442)."""
    default = f",0.0.0.0/0,{subnet.gateway}" if subnet.gateway else ""
    return f"{METADATA_ADDRESS}/32,{own}{default}"


def _dhcp_host(guest: Guest) -> str:
    tag = "" if guest.has_router else f"set:{_NO_ROUTER},"
    name = "" if _NO_NAME.fullmatch(guest.name) else f"{guest.name},"
    return f"{guest.mac},{tag}{guest.address},{name}{_LEASE}\n"


def _data_server(subnet: GuestSubnet) -> str:
    return f"{DATA_SERVER}.{subnet.domain}"


def _names(bridge: GuestBridge, own: OwnAddresses) -> list[str]:
    """Return one line for each name. Of machines with the same name the first has it: accounts share a
    network, and nobody can take the name of another's machine or of the metadata service.
    """
    # a resolver tries the name in its domain first
    taken = {DATA_SERVER, *(_data_server(subnet).lower() for subnet in bridge.subnets)}
    lines = [
        f"{own[subnet.cidr]} {_data_server(subnet)} {DATA_SERVER}\n"
        for subnet in bridge.subnets
        if subnet.cidr in own
    ]
    guests: list[tuple[Guest, str]] = [
        (guest, subnet.domain) for subnet in bridge.subnets for guest in subnet.guests
    ]
    for guest, domain in guests:
        names = [f"{guest.name}.{domain}", guest.name]
        free = [name for name in names if name.lower() not in taken]
        taken.update(name.lower() for name in free)
        if free:
            lines.append(f"{guest.address} {' '.join(free)}\n")
    return lines
