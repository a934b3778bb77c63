# SPDX-License-Identifier: Apache-2.0
"""Changes physical networks and their traffic types. Each function is one transaction."""

from __future__ import annotations

from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, guest_networks, physical_networks, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.physical_networks import CarriedTraffic, PhysicalNetwork
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.ranges import Labels, check_free, check_vlan
from systemvm.management.zone_model.refusals import check_name, in_use, invalid, named
from systemvm.management.zone_model.subnets import Subnet
from systemvm.management.zone_model.vlans import check_vnet

_LABEL = "kvmnetworklabel"
#: The traffic types that addTrafficType adds; control traffic is on no physical network.
ADDABLE = (TrafficType.MANAGEMENT, TrafficType.PUBLIC, TrafficType.GUEST, TrafficType.STORAGE)


def create_network(connection: Connection, zone: Zone, *, name: str) -> PhysicalNetwork:
    """Create a physical network. Raises: ModelError when its name is not free."""
    others = [each.name for each in physical_networks.list_networks(connection, zone.id)]
    return physical_networks.network_rows.insert(
        connection, zone_id=zone.id, name=check_name("name", name, others)
    )


def update_network(
    connection: Connection, network: PhysicalNetwork, labels: Labels, *, state: str, vnet: str | None
) -> PhysicalNetwork:
    """Change state and VLANs. Raises: ModelError when VLANs are not permitted, or left out and in use."""
    vlans = network.vnet if vnet is None else check_vnet(connection, network, vnet, labels)
    return physical_networks.network_rows.update(connection, network.id, state=state, vnet=vlans)


def delete_network(connection: Connection, network: PhysicalNetwork) -> None:
    """Delete a physical network. Raises: ModelError when it carries traffic."""
    carried = physical_networks.traffic_of_network(connection, network.id)
    if carried:
        raise in_use(
            f"physical network {network.name}",
            named("traffic type", [each.traffic_type.value for each in carried]),
            "delete each with deleteTrafficType first",
        )
    physical_networks.network_rows.update(connection, network.id, removed=now())


def add_traffic(
    connection: Connection,
    network: PhysicalNetwork,
    kind: TrafficType,
    labels: Labels,
    *,
    kvm_label: str | None = None,
    xen_label: str | None = None,
    vmware_label: str | None = None,
) -> CarriedTraffic:
    """Have a physical network carry a traffic type.

    Raises: ModelError when another one of the zone carries it, or this host has no such label.
    """
    known = physical_networks.network_of_traffic(connection, network.zone_id, kind)
    if known is not None:
        raise invalid(
            "traffictype",
            f"physical network {known.name} of this zone carries {kind.value} traffic already",
            "delete it there with deleteTrafficType, or choose another traffic type",
        )
    check_label(kvm_label or network.name, labels)
    added = physical_networks.traffic_rows.insert(
        connection,
        physical_network_id=network.id,
        traffic_type=kind.value,
        kvm_label=kvm_label or None,
        xen_label=xen_label or None,
        vmware_label=vmware_label or None,
    )
    _check_ranges(connection, network.zone_id, kind, labels)
    return added


def update_traffic(
    connection: Connection,
    traffic: CarriedTraffic,
    labels: Labels,
    *,
    kvm_label: str | None = None,
    xen_label: str | None = None,
    vmware_label: str | None = None,
) -> CarriedTraffic:
    """Change the labels that are not None, and clear empty ones; VMs have the network at their next creation.

    Raises: ModelError when this host has no such label.
    """
    given = {"kvm_label": kvm_label, "xen_label": xen_label, "vmware_label": vmware_label}
    changes = {name: value or None for name, value in given.items() if value is not None}
    if not changes:
        return traffic
    network = physical_networks.network_by_id(connection, traffic.physical_network_id)
    if kvm_label is not None:
        label = kvm_label or network.name
        check_label(label, labels)
        if label != (traffic.kvm_label or network.name) and traffic.traffic_type is TrafficType.GUEST:
            _check_without_vlans(connection, traffic)
    updated = physical_networks.traffic_rows.update(connection, traffic.id, **changes)
    _check_ranges(connection, network.zone_id, traffic.traffic_type, labels)
    return updated


def delete_traffic(connection: Connection, traffic: CarriedTraffic) -> None:
    """Delete a traffic type. Raises: ModelError when the zone has ranges or guest networks of it."""
    network = physical_networks.network_by_id(connection, traffic.physical_network_id)
    ranges = address_ranges.list_ranges(connection, network.zone_id, traffic.traffic_type)
    if ranges:
        raise in_use(
            f"{traffic.traffic_type.value} traffic",
            named("IP range", [each.span_text for each in ranges]),
            "delete each range first",
        )
    if traffic.traffic_type is TrafficType.GUEST:
        names = [each.name for each in guest_networks.list_networks(connection, network.zone_id)]
        if names:  # those of L2 have no range
            raise in_use(
                "guest traffic", named("guest network", names), "delete each with deleteNetwork first"
            )
    physical_networks.traffic_rows.update(connection, traffic.id, removed=now())


def _check_without_vlans(connection: Connection, traffic: CarriedTraffic) -> None:
    """Check that no guest network is in a VLAN, whose bridge would be another one."""
    physical = physical_networks.network_by_id(connection, traffic.physical_network_id)
    found = guest_networks.list_networks(connection, physical.zone_id)
    names = [each.name for each in found if each.vlan is not None]
    if names:
        raise in_use(
            "label of guest traffic",
            named("network", names) + " in VLANs of it",
            "stop the virtual machines on networks of accounts, and delete shared ones in VLANs, first",
        )


def _check_ranges(connection: Connection, zone_id: int, kind: TrafficType, labels: Labels) -> None:
    """Check that the network that now carries a traffic type has its VLANs, and its ranges are free there.

    Raises: ModelError when it lacks a VLAN, or an address is not free there.
    """
    zone = zones.zone_by_id(connection, zone_id)
    for each in address_ranges.list_ranges(connection, zone_id, kind):
        check_vlan(connection, zone, kind, each.vlan, labels, _LABEL)
        check_free(connection, zone, kind, Subnet.of(each), labels, each.vlan, but=each, parameter=_LABEL)


def check_label(label: str, labels: Labels) -> None:
    """Check that this host has a network with a label, and can make its bridge.

    Raises: ModelError that lists those which it has, or with what the bridge lacks.
    """
    network = labels.get(label)
    if network is None:
        raise invalid(
            _LABEL,
            f"this host has no network with the label {label[:64]}",
            f"choose one of {', '.join(labels)}, or add the label to host.yaml",
        )
    if network.unusable is not None:
        why = f"network {label} of this host cannot be used: {network.unusable.message}"
        raise invalid(_LABEL, why, network.unusable.hint or "read the journal of systemvm-nethelper")
