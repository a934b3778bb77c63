# SPDX-License-Identifier: Apache-2.0
"""VLANs of guest networks: one of an account has one while a VM runs on it. Each function is one transaction.

The row keeps the VLAN, so that none is lost or given twice when the daemon is killed between two steps: what
was not finished is finished by the next start of a VM, or given back by the next pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import IPv4Interface

from systemvm.host.bridges import format_vlans
from systemvm.host.guest_vlans import GuestLink, vlan_bridge
from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, guest_networks, instances, physical_networks, zones
from systemvm.management.state.address_ranges import NetworkRange
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.status import GuestNetworkState
from systemvm.management.zone_model.ranges import Labels
from systemvm.management.zone_model.system_vm_networks import IncompleteZoneError, bridge_of, label_of
from systemvm.management.zone_model.vlans import parse_vnet, permitted_vlans, used_vlans
from systemvm.service.errors import FailureCode, SystemVmError

_GUEST = TrafficType.GUEST
#: The bridge of a NIC whose network has no VLAN: no bridge, so that a VM cannot start on a wrong one.
NO_BRIDGE = ""


class NoVlanError(SystemVmError):
    """No VLAN is left for a network."""

    code = FailureCode.NO_CAPACITY


def bridge_of_network(bridge: str, network: GuestNetwork | None) -> str:
    """Return the bridge of a network in a zone whose guest traffic is on `bridge`."""
    if network is None or (network.vlan is None and network.is_shared):
        return bridge
    return NO_BRIDGE if network.vlan is None else vlan_bridge(bridge, network.vlan)


def take_vlans(connection: Connection, vm_id: int, labels: Labels) -> bool:
    """Give each network of a VM that is not shared a VLAN; return whether any network of the VM is in one.

    Raises: NoVlanError when none is free, IncompleteZoneError.
    """
    networks = guest_networks.of_vm(connection, vm_id)
    for network in networks:
        if not network.is_shared:
            vlan = network.vlan if network.vlan is not None else _free_vlan(connection, network, labels)
            bridge = vlan_bridge(bridge_of(connection, network.zone_id, _GUEST, labels), vlan)
            guest_networks.put_on_bridge(connection, network.id, bridge)
            if network.state is not GuestNetworkState.IMPLEMENTED:
                guest_networks.rows.update(
                    connection, network.id, vlan=vlan, state=GuestNetworkState.IMPLEMENTING
                )
    return any(not network.is_shared or network.vlan is not None for network in networks)


def bridges_of_vm(connection: Connection, vm_id: int) -> list[str]:
    """Return the bridges of a VM's NICs."""
    return [nic.bridge for nic in instances.nics_of(connection, vm_id)]


def bridge_of_id(connection: Connection, network_id: int, labels: Labels) -> str:
    """Return the bridge of a network. Raises: IncompleteZoneError."""
    network = guest_networks.rows.by_id(connection, network_id)
    return bridge_of_network(bridge_of(connection, network.zone_id, _GUEST, labels), network)


def release_unused(connection: Connection) -> list[GuestNetwork]:
    """Take the VLANs of networks on which no VM runs, and return these networks."""
    found = guest_networks.unused(connection)
    for network in found:
        guest_networks.put_on_bridge(connection, network.id, NO_BRIDGE)
        guest_networks.rows.update(connection, network.id, vlan=None, state=GuestNetworkState.ALLOCATED)
    return found


def note_implemented(connection: Connection, labels: Labels, failed: Collection[str]) -> None:
    """Note which networks this host has, all but those on bridges that failed."""
    networks = guest_networks.list_networks(connection)
    begun = [network for network in networks if network.state is GuestNetworkState.IMPLEMENTING]
    subnets = _subnets(connection) if begun else {}
    for network in begun:
        link = _link(connection, network, labels, subnets)
        if link is not None and link.name not in failed:
            guest_networks.rows.update(connection, network.id, state=GuestNetworkState.IMPLEMENTED)


def links(connection: Connection, labels: Labels) -> list[GuestLink]:
    """Return the guest VLANs that this host needs."""
    networks = [each for each in guest_networks.list_networks(connection) if each.vlan is not None]
    subnets = _subnets(connection) if networks else {}
    found = [_link(connection, network, labels, subnets) for network in networks]
    return [link for link in found if link is not None]


def _subnets(connection: Connection) -> dict[int, NetworkRange]:
    """Return the oldest range of each guest network by the network's number."""
    found: dict[int, NetworkRange] = {}
    for each in address_ranges.list_ranges(connection, traffic_type=_GUEST):
        if each.guest_network_id is not None:
            found.setdefault(each.guest_network_id, each)
    return found


def _link(
    connection: Connection, network: GuestNetwork, labels: Labels, subnets: Mapping[int, NetworkRange]
) -> GuestLink | None:
    if network.vlan is None:
        return None
    try:
        bridge = bridge_of(connection, network.zone_id, _GUEST, labels)
    except IncompleteZoneError:
        return None  # another host has it
    address = None
    if network.is_isolated:
        own = subnets.get(network.id)
        if own is None or own.gateway is None:
            return None
        address = IPv4Interface((own.gateway, own.cidr.prefixlen))
    return GuestLink(bridge, network.vlan, address)


def _free_vlan(connection: Connection, network: GuestNetwork, labels: Labels) -> int:
    """Return the lowest VLAN that root's file and the physical network permit, and nothing has."""
    zone = zones.zone_by_id(connection, network.zone_id)
    label = label_of(connection, zone.id, _GUEST, labels)
    physical = physical_networks.network_of_traffic(connection, zone.id, _GUEST)
    wanted = parse_vnet(physical.vnet) if physical is not None else frozenset[int]()
    known = labels.get(label)
    possible = wanted & permitted_vlans(known) if known is not None else frozenset[int]()
    free = possible - used_vlans(connection, label, labels)
    if free:
        return min(free)
    if possible:
        raise NoVlanError(
            f"no VLAN is free for network {network.name}: all of {format_vlans(possible)} are in use",
            "stop virtual machines of other networks, or ask an administrator for more VLANs "
            "(updatePhysicalNetwork vlan=)",
        )
    raise NoVlanError(
        f"zone {zone.name} has no VLANs for isolated and L2 networks on this host",
        f"set vlan of the physical network with updatePhysicalNetwork to VLANs of label {label} in host.yaml",
    )
