# SPDX-License-Identifier: Apache-2.0
"""Creates shared guest networks, changes and deletes all. Each function is one transaction.

A shared network is a subnet with its addresses, on the bridge of the zone's guest traffic or in a VLAN of it.
"""

from __future__ import annotations

from systemvm.host.bridges import HostNetwork
from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, guest_networks, guest_nics
from systemvm.management.state.address_ranges import NetworkRange
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.ranges import (
    Labels,
    add_range,
    check_no_isolated_network,
    delete_range,
    own_addresses,
)
from systemvm.management.zone_model.refusals import check_name, in_use, invalid, named
from systemvm.management.zone_model.subnets import Subnet
from systemvm.management.zone_model.system_vm_networks import label_of
from systemvm.management.zone_model.vlans import used_vlans

_GUEST = TrafficType.GUEST


def create_network(
    connection: Connection,
    zone: Zone,
    subnet: Subnet,
    labels: Labels,
    *,
    name: str,
    display_text: str,
    domain: str | None,
    vlan: int | None = None,
) -> GuestNetwork:
    """Create a shared network with its range of addresses.

    Raises: ModelError when its name or its subnet is not free, or this host has no address in the subnet.
    """
    others = guest_networks.list_networks(connection, zone.id)
    wanted = check_name("name", name, [other.name for other in others])
    check_no_isolated_network(connection, subnet)
    if any(each.cidr == subnet.cidr for each in address_ranges.list_ranges(connection, zone.id, _GUEST)):
        raise invalid(
            "netmask",
            f"network {subnet.cidr} is a guest network of zone {zone.name} already",
            "add addresses to it with createVlanIpRange, or choose another one",
        )
    label = label_of(connection, zone.id, _GUEST, labels)
    if vlan is not None and vlan in used_vlans(connection, label, labels):
        raise invalid("vlan", f"VLAN {vlan} is that of another network", "choose another one")
    added = add_range(connection, zone, _GUEST, subnet, labels, vlan=vlan)
    facts = labels.get(label)
    if facts is not None:
        _check_own_address(facts, label, subnet, vlan)
    network = guest_networks.rows.insert(
        connection,
        zone_id=zone.id,
        name=wanted,
        display_text=display_text or wanted,
        network_domain=domain,
        vlan=vlan,
    )
    address_ranges.rows.update(connection, added.id, guest_network_id=network.id)
    return network


def _check_own_address(facts: HostNetwork, label: str, subnet: Subnet, vlan: int | None) -> None:
    """Check that this host has an address in a subnet, at which it can serve DHCP."""
    where = f"bridge {facts.bridge}" if vlan is None else f"VLAN {vlan}"
    key = "addresses" if vlan is None else "vlan_addresses"
    if not any(each.ip in subnet.cidr for each in own_addresses(facts, vlan)):
        raise invalid(
            "gateway",
            f"this host has no address in {subnet.cidr} on {where}: it cannot serve DHCP",
            f"add one to the {key} of the label {label} in host.yaml",
        )


def update_network(
    connection: Connection,
    network: GuestNetwork,
    *,
    name: str | None,
    display_text: str | None,
    domain: str | None,
) -> GuestNetwork:
    """Change what is not None; an empty description becomes the name.

    Raises: ModelError when the name is not free.
    """
    if display_text == "":
        display_text = name or network.name
    changes = {"display_text": display_text, "network_domain": domain}
    if name is not None:
        others = guest_networks.list_networks(connection, network.zone_id)
        if network.account_id is not None:
            others = [each for each in others if each.is_usable_by(network.account_id)]
        changes["name"] = check_name("name", name, [each.name for each in others if each.id != network.id])
    given = {column: value for column, value in changes.items() if value is not None}
    return guest_networks.rows.update(connection, network.id, **given) if given else network


def check_is_of_network(connection: Connection, zone: Zone, subnet: Subnet, vlan: int) -> None:
    """Check that a subnet in a VLAN is that of a network. Raises: ModelError when it is of none."""
    known = [
        each for each in address_ranges.list_ranges(connection, zone.id, _GUEST) if each.vlan is not None
    ]
    if not any(each.cidr == subnet.cidr for each in known):
        raise invalid(
            "vlan",
            f"{subnet.cidr} is no guest network in VLAN {vlan}",
            "create the network with createNetwork first, with this VLAN",
        )


def check_not_last(connection: Connection, found: NetworkRange) -> None:
    """Check that a range is not all that a network has. Raises: ModelError when it is."""
    if found.guest_network_id is None:
        return
    ranges = address_ranges.list_ranges(connection, found.zone_id, _GUEST)
    if not any(each.guest_network_id == found.guest_network_id and each.id != found.id for each in ranges):
        network = guest_networks.rows.by_id(connection, found.guest_network_id)
        raise in_use(
            f"IP range {found.span_text}",
            f"it is the last one of guest network {network.name}",
            "use deleteNetwork, or add another range with createVlanIpRange first",
        )


def delete_network(connection: Connection, network: GuestNetwork) -> None:
    """Delete a network. Raises: ModelError when a virtual machine is on it."""
    names = guest_nics.machines_on(connection, network.id)
    if names:
        raise in_use(
            f"guest network {network.name}",
            named("virtual machine", names),
            "destroy these virtual machines with expunge=true first",
        )
    for each in address_ranges.list_ranges(connection, network.zone_id, _GUEST):
        if each.guest_network_id == network.id:
            delete_range(connection, each)
    guest_networks.remove(connection, network.id)
