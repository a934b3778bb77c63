# SPDX-License-Identifier: Apache-2.0
"""Where createVlanIpRange puts a range: the zone and the network that its parameters name."""

from __future__ import annotations

from attrs import frozen

from systemvm.host.zone import TrafficType
from systemvm.management.api.parameters import Arguments
from systemvm.management.api.zone_parts import guest_network_of
from systemvm.management.state import address_ranges, guest_networks, physical_networks, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.refusals import invalid
from systemvm.management.zone_model.subnets import Subnet, read_vlan


@frozen
class RangePlace:
    zone: Zone
    kind: TrafficType  # public or guest
    vlan: int | None


def place_of(connection: Connection, arguments: Arguments, subnet: Subnet) -> RangePlace:
    """Return the place of a new range with this subnet.

    Raises: ModelError when the parameters contradict one another, or the subnet is not the network's.
    """
    is_public = arguments.flag("forvirtualnetwork", "networkid" not in arguments)
    vlan = read_vlan(arguments.text("vlan"))
    if "networkid" not in arguments:
        zone = _zone_of(connection, arguments)
    elif is_public:
        raise invalid(
            "networkid",
            "is that of a guest network, which has no public addresses",
            "omit networkid, or send forvirtualnetwork=false",
        )
    else:
        zone, network = _network_of(connection, arguments["networkid"])
        _check_same_zone(connection, arguments, zone)
        _check_subnet_of(connection, zone, network, subnet)
        if "vlan" not in arguments and network is not None:
            vlan = network.vlan
    place = RangePlace(zone, TrafficType.PUBLIC if is_public else TrafficType.GUEST, vlan)
    if "physicalnetworkid" in arguments:
        _check_carries(connection, arguments["physicalnetworkid"], place)
    return place


def _zone_of(connection: Connection, arguments: Arguments) -> Zone:
    """Return the zone of zoneid or physicalnetworkid."""
    if "zoneid" in arguments:
        return zones.zone_by_uuid(connection, arguments["zoneid"])
    if "physicalnetworkid" in arguments:
        network = physical_networks.network_by_uuid(connection, arguments["physicalnetworkid"])
        return zones.zone_by_id(connection, network.zone_id)
    raise invalid("zoneid", "is missing", "send zoneid, networkid or physicalnetworkid")


def _network_of(connection: Connection, uuid: str) -> tuple[Zone, GuestNetwork | None]:
    """Return a guest network that can get ranges and its zone; no network is the zone's own."""
    for zone in zones.list_zones(connection):
        if guest_network_of(zone).id == uuid:
            return zone, None
    network = guest_networks.by_uuid(connection, uuid)
    if not network.is_shared:
        raise invalid(
            "networkid",
            f"network {network.name} is {network.guest_type.value}: it gets no further addresses",
            "send the id of a shared network",
        )
    return zones.zone_by_id(connection, network.zone_id), network


def _check_same_zone(connection: Connection, arguments: Arguments, zone: Zone) -> None:
    if "zoneid" in arguments and zones.zone_by_uuid(connection, arguments["zoneid"]).id != zone.id:
        raise invalid("zoneid", f"the network is in zone {zone.name}", f"send {zone.uuid}, or omit zoneid")


def _check_subnet_of(
    connection: Connection, zone: Zone, network: GuestNetwork | None, subnet: Subnet
) -> None:
    """Check that a range with this subnet becomes one of the network."""
    ranges = address_ranges.list_ranges(connection, zone.id, TrafficType.GUEST)
    own = {str(each.cidr) for each in ranges if network and each.guest_network_id == network.id}
    if network is not None and str(subnet.cidr) not in own:
        raise invalid(
            "gateway",
            f"{subnet.cidr} is not the subnet of network {network.name}, {', '.join(sorted(own)) or 'none'}",
            "send gateway and netmask of its subnet; see listNetworks",
        )
    if network is None and any(
        each.cidr == subnet.cidr and each.guest_network_id is not None for each in ranges
    ):
        raise invalid(
            "networkid", f"{subnet.cidr} is the subnet of another network", "send the id of that one"
        )


def _check_carries(connection: Connection, physical_uuid: str, place: RangePlace) -> None:
    """Check that a physical network is the one which carries the place's traffic."""
    named = physical_networks.network_by_uuid(connection, physical_uuid)
    carrier = physical_networks.network_of_traffic(connection, place.zone.id, place.kind)
    if carrier is not None and carrier.id != named.id:
        raise invalid(
            "physicalnetworkid",
            f"{named.name} does not carry {place.kind.value} traffic of zone {place.zone.name}",
            f"send that of {carrier.name}, {carrier.uuid}, or omit it",
        )
