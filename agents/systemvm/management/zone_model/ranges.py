# SPDX-License-Identifier: Apache-2.0
"""Creates, changes and deletes ranges of addresses; no address is in two of them. Each function is one
transaction."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from systemvm.host.bridges import HostNetwork, format_vlans
from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, physical_networks, pods, zones
from systemvm.management.state.address_ranges import NetworkRange
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.pods import Pod
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.refusals import in_use, invalid, named, wrong_state
from systemvm.management.zone_model.subnets import Subnet, check_span
from systemvm.management.zone_model.system_vm_networks import IncompleteZoneError, label_of

#: This host's networks by label.
Labels = Mapping[str, HostNetwork]

_OTHER_NETWORK = "choose a gateway and a netmask of another network"


def add_range(
    connection: Connection,
    zone: Zone,
    kind: TrafficType,
    subnet: Subnet,
    labels: Labels,
    *,
    pod: Pod | None = None,
    vlan: int | None = None,
    ipv6: tuple[IPv6Network | None, IPv6Address | None] = (None, None),
    for_system_vms: bool = True,
) -> NetworkRange:
    """Add a range of addresses to a network of a zone.

    Raises: ModelError when the network does not exist, or an address is not free.
    """
    if kind is not TrafficType.MANAGEMENT and kind not in physical_networks.traffic_of_zone(
        connection, zone.id
    ):
        raise wrong_state(
            f"zone {zone.name}",
            f"no physical network carries {kind.value} traffic",
            "add it with addTrafficType first",
        )
    if pod is not None and kind is TrafficType.MANAGEMENT and subnet.cidr != pod.cidr:
        raise invalid(
            "gateway",
            f"network {subnet.cidr} is not that of pod {pod.name}, {pod.cidr}",
            f"send gateway={pod.gateway} and netmask={pod.cidr.netmask}",
        )
    check_subnet(connection, zone, kind, subnet, vlan)
    check_vlan(connection, zone, kind, vlan, labels)
    check_free(connection, zone, kind, subnet, labels, vlan)
    cidr6, gateway6 = ipv6
    # a subnet of a guest network stays its own, whichever range of it is added
    siblings = address_ranges.list_ranges(connection, zone.id, kind)
    network_id = next((each.guest_network_id for each in siblings if each.cidr == subnet.cidr), None)
    return address_ranges.rows.insert(
        connection,
        zone_id=zone.id,
        pod_id=None if pod is None else pod.id,
        traffic_type=kind.value,
        vlan=vlan,
        cidr6=None if cidr6 is None else str(cidr6),
        gateway6=None if gateway6 is None else str(gateway6),
        for_system_vms=for_system_vms,
        guest_network_id=network_id,
        **subnet.columns,
    )


def update_range(
    connection: Connection, found: NetworkRange, labels: Labels, first: IPv4Address, last: IPv4Address
) -> NetworkRange:
    """Give a range another begin and end.

    Raises: ModelError when a VM has an address that would be outside, or one of the new ones is not free.
    """
    zone = zones.zone_by_id(connection, found.zone_id)
    check_span(found.cidr, found.gateway, first, last)
    outside = [each for each in address_ranges.used_addresses(connection, found) if not first <= each <= last]
    if outside:
        raise in_use(
            f"IP range {found.first}–{found.last}",
            named("address", map(str, outside)) + " would be outside of the new range",
            f"include {outside[0]}, or destroy the VM that has it",
        )
    subnet = Subnet(found.cidr, found.gateway or found.cidr[1], first, last)
    check_free(connection, zone, found.traffic_type, subnet, labels, found.vlan, but=found)
    return address_ranges.rows.update(connection, found.id, first=str(first), last=str(last))


def delete_range(connection: Connection, found: NetworkRange) -> None:
    """Delete a range. Raises: ModelError when a VM has one of its addresses."""
    used = address_ranges.used_addresses(connection, found)
    if used:
        raise in_use(
            f"IP range {found.first}–{found.last}",
            named("address", map(str, used)) + " of virtual machines",
            "destroy these virtual machines first; of system VMs, disable the zone before",
        )
    address_ranges.rows.update(connection, found.id, removed=now())


def check_vlan(
    connection: Connection,
    zone: Zone,
    kind: TrafficType,
    vlan: int | None,
    labels: Labels,
    parameter: str = "vlan",
) -> None:
    """Check that the host's network of a traffic type has a VLAN; `parameter` is what a caller can change.

    Raises: ModelError that lists those which it has.
    """
    label = _label(connection, zone, kind, labels)
    network = None if label is None else labels.get(label)
    if vlan is None or network is None or vlan in network.vlans:
        return
    known = format_vlans(network.vlans)
    raise invalid(
        parameter,
        f"{vlan} is not a VLAN of label {label} on this host, which has {known or 'none'}",
        f"send {'one of these' if known else 'untagged'}, or add {vlan} to vlans of the label in host.yaml",
    )


def check_subnet(
    connection: Connection, zone: Zone, kind: TrafficType, subnet: Subnet, vlan: int | None = None
) -> None:
    """Check that a subnet is the same as, or apart from, each other subnet of the zone.

    Raises: ModelError when it overlaps one of another traffic type, or a different one of its own.
    """
    for other in address_ranges.list_ranges(connection, zone.id):
        same = other.traffic_type is kind and other.cidr == subnet.cidr
        if same and other.gateway not in (None, subnet.gateway):
            raise invalid(
                "gateway",
                f"{subnet.gateway} is not the gateway of {other.cidr} in zone {zone.name}, {other.gateway}",
                f"send gateway={other.gateway}",
            )
        if same and other.vlan != vlan:
            raise invalid(
                "vlan",
                f"network {other.cidr} of zone {zone.name} is in VLAN {other.vlan_text}",
                f"send vlan={other.vlan_text}, or choose a gateway and a netmask of another network",
            )
        if not same and other.cidr.overlaps(subnet.cidr):
            raise invalid(
                "netmask",
                f"network {subnet.cidr} overlaps {other.cidr}, which carries {other.traffic_type.value} "
                f"traffic of zone {zone.name}",
                _OTHER_NETWORK,
            )
    for pod in pods.list_pods(connection, zone.id) if kind is not TrafficType.MANAGEMENT else ():
        if pod.cidr.overlaps(subnet.cidr):
            raise invalid(
                "netmask",
                f"network {subnet.cidr} overlaps the management network {pod.cidr} of pod {pod.name}",
                _OTHER_NETWORK,
            )


def check_free(
    connection: Connection,
    zone: Zone,
    kind: TrafficType,
    subnet: Subnet,
    labels: Labels,
    vlan: int | None = None,
    but: NetworkRange | None = None,
    parameter: str = "startip",
) -> None:
    """Check that no other range has an address of this one, nor has a host.

    Ranges of other zones count where both are on the same network of this host, and in the same VLAN of it.

    Raises: ModelError when an address is not free.
    """
    first, last = subnet.first, subnet.last
    if first is None or last is None:
        return
    label = _label(connection, zone, kind, labels)
    network = None if label is None or vlan is not None else labels.get(label)
    for address in network.addresses if network is not None else ():
        own = address.ip
        if isinstance(own, IPv4Address) and first <= own <= last:
            raise invalid(
                parameter, f"range {first}–{last} contains this host's own address {own}", f"leave out {own}"
            )
    for other in address_ranges.list_ranges(connection):
        if but is not None and other.id == but.id:
            continue
        if other.first is None or other.last is None or other.last < first or last < other.first:
            continue
        if other.zone_id != zone.id:
            theirs = zones.zone_by_id(connection, other.zone_id)
            if label is None or vlan != other.vlan:
                continue
            if _label(connection, theirs, other.traffic_type, labels) != label:
                continue
        raise invalid(
            parameter,
            f"range {first}–{last} overlaps {other.first}–{other.last} of {other.traffic_type.value} traffic",
            f"choose addresses below {other.first} or above {other.last}",
        )


def _label(connection: Connection, zone: Zone, kind: TrafficType, labels: Labels) -> str | None:
    try:
        return label_of(connection, zone.id, kind, labels)
    except IncompleteZoneError:
        return None
