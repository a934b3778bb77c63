# SPDX-License-Identifier: Apache-2.0
"""What this host serves on its guest bridges, from the rows."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import cast

import msgspec

from systemvm.host.bridges import HostNetwork
from systemvm.host.guest_filter import BoundGuest
from systemvm.host.guest_services import Guest, GuestBridge, GuestSubnet, is_domain, is_host_name
from systemvm.host.zone import TrafficType
from systemvm.management.guest_networks.vlans import NO_BRIDGE, bridge_of_network
from systemvm.management.hypervisors.qemu_arguments import tap_name
from systemvm.management.state import address_ranges, guest_networks, guest_nics, zones
from systemvm.management.state.address_ranges import NetworkRange
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.guest_nics import GuestNic
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.system_vm_networks import IncompleteZoneError, bridge_of

#: The domain of machines in a zone without one (guest.domain.suffix).
DEFAULT_DOMAIN = "cloud.internal"


def domain_of(zone: Zone, network: GuestNetwork | None = None) -> str:
    """Return the domain of machines' names; earlier releases did not check that of a zone."""
    domain = (network and network.network_domain) or zone.network_domain or ""
    return domain if is_domain(domain) else DEFAULT_DOMAIN


def compose(connection: Connection, labels: Mapping[str, HostNetwork], host_id: int) -> list[GuestBridge]:
    """Return each bridge that carries a guest network with addresses."""
    nics: dict[str, list[GuestNic]] = {}
    for nic in guest_nics.list_addressed(connection):
        nics.setdefault(nic.bridge, []).append(nic)
    subnets: dict[str, dict[IPv4Network, GuestSubnet]] = {}
    created = {network.id: network for network in guest_networks.list_networks(connection)}
    servers: dict[str, dict[IPv4Address, None]] = {}
    for zone in zones.list_zones(connection):
        ranges = [
            each
            for each in address_ranges.list_ranges(connection, zone.id, TrafficType.GUEST)
            if each.first is not None
        ]
        try:
            bridge = bridge_of(connection, zone.id, TrafficType.GUEST, labels) if ranges else ""
        except IncompleteZoneError:
            continue  # another host has it
        for each in ranges:
            network = created.get(each.guest_network_id or 0)
            name = bridge_of_network(bridge, network)
            if name == NO_BRIDGE:
                continue
            subnet = _subnet(each, domain_of(zone, network), nics.get(name, []), host_id)
            if network is not None and network.is_isolated:
                # nothing is behind this host
                subnet = msgspec.structs.replace(subnet, gateway=None, host_address=subnet.gateway)
            subnets.setdefault(name, {}).setdefault(subnet.cidr, subnet)
            servers.setdefault(name, {}).update(dict.fromkeys(map(IPv4Address, zone.dns)))
    return [
        GuestBridge(bridge, tuple(found.values()), tuple(servers[bridge]))
        for bridge, found in subnets.items()
    ]


def bound_guests(connection: Connection, host_id: int) -> list[BoundGuest]:
    """Return the ports of this host's machines that have an address of the cloud."""
    return [
        BoundGuest(tap_name(nic.vm_uuid, nic.device), nic.mac, nic.address)
        for nic in guest_nics.list_addressed(connection)
        if nic.host_id in (None, host_id)
    ]


def l2_ports(connection: Connection, host_id: int) -> list[str]:
    """Return the ports of this host's machines that are on L2 networks."""
    return [tap_name(uuid, device) for uuid, device in guest_nics.list_l2_ports(connection, host_id)]


def _subnet(of: NetworkRange, domain: str, nics: list[GuestNic], host_id: int) -> GuestSubnet:
    # ranges.py refuses guest networks of IPv6 alone
    cidr, router = cast(IPv4Network, of.cidr), cast(IPv4Address | None, of.gateway)
    return GuestSubnet(
        cidr,
        router,
        domain,
        tuple(
            Guest(
                nic.mac,
                nic.address,
                nic.name,
                is_here=nic.host_id in (None, host_id),
                has_router=nic.device == 0,
            )
            for nic in nics
            if nic.address in cidr and is_host_name(nic.name)
        ),
    )
