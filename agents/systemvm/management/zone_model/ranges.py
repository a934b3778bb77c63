# SPDX-License-Identifier: Apache-2.0
"""Creates, changes and deletes ranges of addresses; no address is in two of them. Each function is one
transaction."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from attrs import evolve

from systemvm.host.bridges import HostNetwork, Interface, format_vlans
from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, guest_networks, physical_networks, pods, zones
from systemvm.management.state.address_ranges import Address, NetworkRange, Span
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.pods import Pod
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.refusals import in_use, invalid, named, wrong_state
from systemvm.management.zone_model.subnets import ENDS, Subnet, check_span
from systemvm.management.zone_model.system_vm_networks import IncompleteZoneError, label_of
from systemvm.management.zone_model.vlans import isolated_vlans

#: This host's networks by label.
Labels = Mapping[str, HostNetwork]

#: The parameters of a network, by its family.
_NETWORK = {4: ("gateway", "netmask"), 6: ("ip6gateway", "ip6cidr")}
_OTHER_NETWORK = {
    4: "choose a gateway and a netmask of another network",
    6: "choose ip6gateway and ip6cidr of another network",
}
#: What needs addresses of IPv4, of the traffic types that cannot be of IPv6 alone.
_NEED_IPV4 = {
    TrafficType.MANAGEMENT: "hosts' VNC servers and agents use IPv4 there",
    TrafficType.GUEST: "DHCP and metadata are served by IPv4 only",
}


def add_range(
    connection: Connection,
    zone: Zone,
    kind: TrafficType,
    subnet: Subnet,
    labels: Labels,
    *,
    pod: Pod | None = None,
    vlan: int | None = None,
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
    if subnet.cidr.version == 6 and kind in _NEED_IPV4:
        raise invalid(
            "ip6cidr",
            f"{kind.value} addresses cannot be of IPv6 alone: {_NEED_IPV4[kind]}",
            "send gateway, netmask and startip of IPv4, too",
        )
    if pod is not None and kind is TrafficType.MANAGEMENT and subnet.cidr != pod.cidr:
        raise invalid(
            "gateway",
            f"network {subnet.cidr} is not that of pod {pod.name}, {pod.cidr}",
            f"send gateway={pod.gateway} and netmask={pod.cidr.netmask}",
        )
    check_no_isolated_network(connection, subnet)
    check_subnet(connection, zone, kind, subnet, vlan)
    check_vlan(connection, zone, kind, vlan, labels)
    _check_not_isolated(connection, zone, kind, vlan, labels)
    check_free(connection, zone, kind, subnet, labels, vlan)
    # a subnet of a guest network stays its own, whichever range of it is added
    siblings = address_ranges.list_ranges(connection, zone.id, kind)
    network_id = next((each.guest_network_id for each in siblings if each.cidr == subnet.cidr), None)
    return address_ranges.rows.insert(
        connection,
        zone_id=zone.id,
        pod_id=None if pod is None else pod.id,
        traffic_type=kind.value,
        vlan=vlan,
        for_system_vms=for_system_vms,
        guest_network_id=network_id,
        **subnet.columns,
    )


def update_range(
    connection: Connection,
    found: NetworkRange,
    labels: Labels,
    first: Address,
    last: Address,
    ends: tuple[str, str] | None = None,
) -> NetworkRange:
    """Give a range another begin and end, which were sent by the parameters `ends`.

    Raises: ModelError when a VM has an address that would be outside, or one of the new ones is not free.
    """
    zone = zones.zone_by_id(connection, found.zone_id)
    check_span(found.cidr, found.gateway, first, last, ends)
    wanted = evolve(Subnet.of(found), first=first, last=last)
    used = address_ranges.used_addresses(connection, found)
    outside = [each for each in used if not int(first) <= int(each) <= int(last)]
    if outside:
        raise in_use(
            f"IP range {found.span_text}",
            named("address", map(str, outside)) + " would be outside of the new range",
            f"include {outside[0]}, or destroy the VM that has it",
        )
    begin = ends[0] if ends else None
    check_free(connection, zone, found.traffic_type, wanted, labels, found.vlan, but=found, parameter=begin)
    return address_ranges.rows.update(connection, found.id, first=str(first), last=str(last))


def delete_range(connection: Connection, found: NetworkRange) -> None:
    """Delete a range. Raises: ModelError when a VM has one of its addresses."""
    used = address_ranges.used_addresses(connection, found)
    if used:
        raise in_use(
            f"IP range {found.span_text}",
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


def _check_not_isolated(
    connection: Connection, zone: Zone, kind: TrafficType, vlan: int | None, labels: Labels
) -> None:
    """Check that a range of other traffic than guests' is in no VLAN of networks of accounts."""
    label = _label(connection, zone, kind, labels)
    if vlan is None or label is None or kind is TrafficType.GUEST:
        return
    if vlan in isolated_vlans(connection, label, labels):
        raise invalid(
            "vlan",
            f"VLAN {vlan} of label {label} is of networks of accounts",
            "choose another one, or take it from vlan of the physical network with updatePhysicalNetwork",
        )


def check_no_isolated_network(connection: Connection, subnet: Subnet) -> None:
    """Check that a subnet is apart from those of isolated networks of all zones: this host is their gateway.

    Raises: ModelError that names the network.
    """
    isolated = {each.id: each for each in guest_networks.list_networks(connection) if each.is_isolated}
    for other in address_ranges.list_ranges(connection):
        network = isolated.get(other.guest_network_id or 0)
        if network is None:
            continue
        for own in subnet.networks:
            if own.overlaps(other.cidr):
                raise invalid(
                    _NETWORK[own.version][1],
                    f"network {own} overlaps {other.cidr} of isolated network {network.name}, "
                    "which has its addresses to itself",
                    _OTHER_NETWORK[own.version],
                )


def check_subnet(
    connection: Connection, zone: Zone, kind: TrafficType, subnet: Subnet, vlan: int | None = None
) -> None:
    """Check that a subnet is the same as, or apart from, each other subnet of the zone.

    Raises: ModelError when it overlaps one of another traffic type, or a different one of its own.
    """
    of_gateway, of_network = _NETWORK[subnet.cidr.version]
    hint = _OTHER_NETWORK[subnet.cidr.version]
    for other in address_ranges.list_ranges(connection, zone.id):
        same = other.traffic_type is kind and other.cidr == subnet.cidr
        if same and other.gateway not in (None, subnet.gateway):
            raise invalid(
                of_gateway,
                f"{subnet.gateway} is not the gateway of {other.cidr} in zone {zone.name}, {other.gateway}",
                f"send {of_gateway}={other.gateway}",
            )
        if same and other.vlan != vlan:
            raise invalid(
                "vlan",
                f"network {other.cidr} of zone {zone.name} is in VLAN {other.vlan_text}",
                f"send vlan={other.vlan_text}, or {hint}",
            )
        for own, theirs in itertools.product(subnet.networks, Subnet.of(other).networks):
            if own.overlaps(theirs) and not (other.traffic_type is kind and own == theirs):
                raise invalid(
                    _NETWORK[own.version][1],
                    f"network {own} overlaps {theirs}, which carries {other.traffic_type.value} "
                    f"traffic of zone {zone.name}",
                    _OTHER_NETWORK[own.version],
                )
    for pod in pods.list_pods(connection, zone.id) if kind is not TrafficType.MANAGEMENT else ():
        if pod.cidr.overlaps(subnet.cidr):
            raise invalid(
                of_network,
                f"network {subnet.cidr} overlaps the management network {pod.cidr} of pod {pod.name}",
                hint,
            )


def check_free(
    connection: Connection,
    zone: Zone,
    kind: TrafficType,
    subnet: Subnet,
    labels: Labels,
    vlan: int | None = None,
    but: NetworkRange | None = None,
    parameter: str | None = None,
) -> None:
    """Check that no other range has an address of this one, nor has a host.

    Ranges of other zones count where both are on the same network of this host, and in the same VLAN of it.
    `parameter` is what a caller can change, by default the first address.

    Raises: ModelError when an address is not free.
    """
    label = _label(connection, zone, kind, labels)
    network = None if label is None else labels.get(label)
    of_host = [] if network is None else [each.ip for each in own_addresses(network, vlan)]
    others = [
        other
        for other in address_ranges.list_ranges(connection)
        if (but is None or other.id != but.id)
        and (other.zone_id == zone.id or _shares_network(connection, other, label, vlan, labels))
    ]
    for first, last in subnet.spans:
        what = parameter or ENDS[subnet.cidr.version][0]
        for own in of_host:
            if _overlap((first, last), (own, own)):
                raise invalid(
                    what, f"range {first}–{last} contains this host's own address {own}", f"leave out {own}"
                )
        for other in others:
            for span in other.spans:
                if _overlap((first, last), span):
                    raise invalid(
                        what,
                        f"range {first}–{last} overlaps {span[0]}–{span[1]} of {other.traffic_type.value} "
                        "traffic",
                        f"choose addresses below {span[0]} or above {span[1]}",
                    )


def _overlap(one: Span, other: Span) -> bool:
    """Return whether two spans, which can be of different families, have an address in common."""
    is_same_family = one[0].version == other[0].version
    return is_same_family and int(one[0]) <= int(other[1]) and int(other[0]) <= int(one[1])


def _shares_network(
    connection: Connection, other: NetworkRange, label: str | None, vlan: int | None, labels: Labels
) -> bool:
    """Return whether a range of another zone is on the network with a label, in a VLAN of it."""
    if label is None or vlan != other.vlan:
        return False
    theirs = zones.zone_by_id(connection, other.zone_id)
    return _label(connection, theirs, other.traffic_type, labels) == label


def own_addresses(network: HostNetwork, vlan: int | None) -> tuple[Interface, ...]:
    """Return this host's addresses on a network, or in a VLAN of it."""
    return network.addresses if vlan is None else dict(network.vlan_addresses).get(vlan, ())


def _label(connection: Connection, zone: Zone, kind: TrafficType, labels: Labels) -> str | None:
    try:
        return label_of(connection, zone.id, kind, labels)
    except IncompleteZoneError:
        return None
