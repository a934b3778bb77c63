# SPDX-License-Identifier: Apache-2.0
"""Creates L2 guest networks, each of one account: a VLAN between its VMs, in which the cloud has no address.

Its VMs get no DHCP, DNS or metadata from the cloud; they have a config drive.
"""

from __future__ import annotations

from systemvm.host.bridges import BridgeKind
from systemvm.host.zone import TrafficType
from systemvm.management.state import guest_networks, physical_networks
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.status import GuestNetworkState, GuestType
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model import account_networks
from systemvm.management.zone_model.ranges import Labels
from systemvm.management.zone_model.refusals import wrong_state
from systemvm.management.zone_model.system_vm_networks import label_of
from systemvm.management.zone_model.vlans import parse_vnet, permitted_vlans


def create_l2_network(
    connection: Connection,
    zone: Zone,
    labels: Labels,
    *,
    account_id: int,
    name: str,
    display_text: str,
    domain: str | None,
) -> GuestNetwork:
    """Create a network without addresses.

    Raises: ModelError when its name is not free or this host has no VLAN for it, ResourceLimitError,
        IncompleteZoneError.
    """
    wanted = account_networks.check_new(connection, zone, account_id, name)
    check_has_vlans(connection, zone, labels)
    return guest_networks.rows.insert(
        connection,
        zone_id=zone.id,
        name=wanted,
        display_text=display_text or wanted,
        network_domain=domain,
        guest_type=GuestType.L2,
        account_id=account_id,
        state=GuestNetworkState.ALLOCATED,
    )


def check_has_vlans(connection: Connection, zone: Zone, labels: Labels) -> None:
    """Check that root's file and the physical network permit VLANs in which L2 networks of a zone can be.

    Raises: ModelError when they permit none on this host, IncompleteZoneError.
    """
    label = label_of(connection, zone.id, TrafficType.GUEST, labels)
    facts = labels.get(label)
    if facts is not None and facts.kind is not BridgeKind.LINUX:
        raise wrong_state(
            f"zone {zone.name}",
            f"label {label} of its guest traffic is a bridge of Open vSwitch, which has no guest VLANs",
            "give guest traffic a label with a Linux bridge",
        )
    if facts is None or not permitted_vlans(facts):
        raise wrong_state(
            f"zone {zone.name}",
            "has no VLANs for L2 networks on this host",
            f"set vlans of the label {label} in host.yaml",
        )
    physical = physical_networks.network_of_traffic(connection, zone.id, TrafficType.GUEST)
    if physical is None or not parse_vnet(physical.vnet) & permitted_vlans(facts):
        raise wrong_state(
            f"zone {zone.name}",
            f"its physical network of guest traffic has no VLANs of label {label}",
            "set vlan of the physical network with updatePhysicalNetwork",
        )
