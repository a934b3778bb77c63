# SPDX-License-Identifier: Apache-2.0
"""VLANs of a label: which networks have them, and which networks of accounts can have (`vnet`)."""

from __future__ import annotations

from collections.abc import Mapping

from systemvm.host.bridges import HostNetwork, format_vlans, parse_vlans
from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, guest_networks, physical_networks, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.physical_networks import PhysicalNetwork
from systemvm.management.zone_model.refusals import in_use, invalid, named
from systemvm.management.zone_model.system_vm_networks import IncompleteZoneError, label_of

_GUEST = TrafficType.GUEST
_Labels = Mapping[str, HostNetwork]  # that of `ranges` cannot be imported: it imports this module


def used_vlans(connection: Connection, label: str, labels: _Labels) -> set[int]:
    """Return the VLANs of a label that networks and ranges of any zone have."""
    taken = [(network.zone_id, _GUEST, network.vlan) for network in guest_networks.list_networks(connection)]
    taken += [(each.zone_id, each.traffic_type, each.vlan) for each in address_ranges.list_ranges(connection)]
    used = {(zone_id, kind): set[int]() for zone_id, kind, _ in taken}
    for zone_id, kind, vlan in taken:
        if vlan is not None:
            used[zone_id, kind].add(vlan)
    found = set[int]()
    for (zone_id, kind), of_traffic in used.items():
        try:
            if of_traffic and label_of(connection, zone_id, kind, labels) == label:
                found |= of_traffic
        except IncompleteZoneError:
            continue
    return found


def parse_vnet(vnet: str | None) -> frozenset[int]:
    """Return the VLANs of `vnet`, which CloudStack writes as 100-200,300.

    Raises: ValueError when one is not a VLAN.
    """
    return parse_vlans(each.strip() for each in vnet.split(",")) if vnet else frozenset()


def permitted_vlans(label: HostNetwork) -> frozenset[int]:
    """Return the VLANs of a label that networks of accounts can have: those without `vlan_addresses`."""
    return label.vlans - {vlan for vlan, _ in label.vlan_addresses}


def isolated_vlans(connection: Connection, label: str, labels: _Labels) -> set[int]:
    """Return the VLANs of a label that networks of accounts of any zone have, or can have."""
    found = set[int]()
    for zone in zones.list_zones(connection):
        physical = physical_networks.network_of_traffic(connection, zone.id, _GUEST)
        try:
            if physical is None or label_of(connection, zone.id, _GUEST, labels) != label:
                continue
        except IncompleteZoneError:
            continue
        facts = labels.get(label)
        found |= parse_vnet(physical.vnet) & (permitted_vlans(facts) if facts else frozenset())
        found |= {
            network.vlan
            for network in guest_networks.list_networks(connection, zone.id)
            if not network.is_shared and network.vlan is not None
        }
    return found


def check_vnet(connection: Connection, network: PhysicalNetwork, vnet: str, labels: _Labels) -> str:
    """Return the VLANs of a physical network as they are stored.

    Raises: ModelError when one is not permitted on this host, or a network has one that is left out.
    """
    try:
        wanted = parse_vnet(vnet)
    except ValueError as error:
        raise invalid("vlan", str(error), "write it as 100-200,300") from None
    if _GUEST in {each.traffic_type for each in physical_networks.traffic_of_network(connection, network.id)}:
        _check_permitted(connection, network, wanted, labels)
    left_out = [
        each.name
        for each in guest_networks.list_networks(connection, network.zone_id)
        if not each.is_shared and each.vlan is not None and each.vlan not in wanted
    ]
    if left_out:
        raise in_use(
            "VLANs that vlan leaves out",
            named("network", left_out),
            "stop the virtual machines on these first",
        )
    return format_vlans(wanted).replace(" ", "")


def _check_permitted(
    connection: Connection, network: PhysicalNetwork, wanted: frozenset[int], labels: _Labels
) -> None:
    label = label_of(connection, network.zone_id, _GUEST, labels)
    facts = labels.get(label)
    possible = frozenset[int]() if facts is None else permitted_vlans(facts)
    if wanted - possible:
        raise invalid(
            "vlan",
            f"{format_vlans(wanted - possible)} cannot be VLANs of networks of accounts: label {label} of "
            f"this host has {format_vlans(possible) or 'none'}",
            "add them to vlans of the label in host.yaml, without vlan_addresses",
        )
