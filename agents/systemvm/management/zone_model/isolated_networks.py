# SPDX-License-Identifier: Apache-2.0
"""Creates isolated guest networks, each of one account. Each function is one transaction.

This host is the gateway of each, and has the address of the gateway on a bridge of the network's own. A host
can have a subnet only once, so that no two isolated networks overlap, whichever accounts own them.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import cast

from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, guest_networks
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.status import GuestNetworkState, GuestType
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model import account_networks
from systemvm.management.zone_model.ranges import Labels, check_subnet
from systemvm.management.zone_model.refusals import ModelError, invalid, wrong_state
from systemvm.management.zone_model.subnets import Subnet, read_subnet
from systemvm.management.zone_model.system_vm_networks import label_of
from systemvm.service.errors import FailureCode

_GUEST = TrafficType.GUEST
_DEFAULT_PREFIX = 24


def create_isolated_network(
    connection: Connection,
    zone: Zone,
    labels: Labels,
    *,
    account_id: int,
    name: str,
    display_text: str,
    domain: str | None,
    subnet: tuple[str, str] | None,
    span: tuple[str | None, str | None] = (None, None),
    any_size: bool = False,
) -> GuestNetwork:
    """Create a network with all addresses of a subnet: that of `subnet`, gateway and netmask, or a free one.

    Only with `any_size` it can be larger than one that is chosen for it: others need `guest_cidr`, too.

    Raises: ModelError when its name or its subnet is not free, ResourceLimitError.
    """
    wanted = account_networks.check_new(connection, zone, account_id, name)
    within = guest_cidr_of(connection, zone, labels)
    ranges = address_ranges.list_ranges(connection)
    taken = [each.cidr for each in ranges if isinstance(each.cidr, IPv4Network)]
    if subnet is None:
        gateway, netmask = _free_subnet(within, taken)
    else:
        gateway, netmask = subnet
    found = read_subnet(gateway, netmask, *span)
    if found.cidr.prefixlen < _DEFAULT_PREFIX and not any_size:
        raise invalid(
            "netmask",
            f"network {found.cidr} is too large: the largest of an isolated network is a /{_DEFAULT_PREFIX}",
            "send netmask=255.255.255.0, or ask an administrator for a larger network",
        )
    if found.first is None:
        found = _whole(found)
    _check_free(cast(IPv4Network, found.cidr), within, taken)  # of an IPv4 gateway
    check_subnet(connection, zone, _GUEST, found)
    network = guest_networks.rows.insert(
        connection,
        zone_id=zone.id,
        name=wanted,
        display_text=display_text or wanted,
        network_domain=domain,
        guest_type=GuestType.ISOLATED,
        account_id=account_id,
        state=GuestNetworkState.ALLOCATED,
    )
    address_ranges.rows.insert(
        connection,
        zone_id=zone.id,
        traffic_type=_GUEST.value,
        for_system_vms=False,
        guest_network_id=network.id,
        **found.columns,
    )
    return network


def guest_cidr_of(connection: Connection, zone: Zone, labels: Labels) -> IPv4Network:
    """Return the network that isolated networks of a zone have their subnets of.

    Raises: ModelError when this host has none for them, IncompleteZoneError.
    """
    label = label_of(connection, zone.id, _GUEST, labels)
    facts = labels.get(label)
    if facts is None or facts.guest_cidr is None:
        raise wrong_state(
            f"zone {zone.name}",
            "has no subnets for isolated networks on this host",
            f"set guest_cidr of the label {label} in host.yaml",
        )
    return facts.guest_cidr


def _free_subnet(within: IPv4Network, taken: list[IPv4Network]) -> tuple[str, str]:
    """Return gateway and netmask of the lowest subnet that is free."""
    for cidr in within.subnets(new_prefix=max(within.prefixlen, _DEFAULT_PREFIX)):
        if not any(cidr.overlaps(other) for other in taken):
            return str(cidr[1]), str(cidr.netmask)
    raise ModelError(
        f"no subnet of {within} is free for another isolated network",
        "delete a network that is not needed, or ask an administrator for a larger guest_cidr",
        code=FailureCode.NO_CAPACITY,
        parameter="zoneid",
    )


def _check_free(cidr: IPv4Network, within: IPv4Network, taken: list[IPv4Network]) -> None:
    if not cidr.subnet_of(within):
        raise invalid(
            "netmask",
            f"network {cidr} is not in {within}, which isolated networks have their subnets of",
            "omit gateway and netmask, or choose a network in it",
        )
    if any(cidr.overlaps(other) for other in taken):
        raise invalid(
            "netmask",
            f"network {cidr} overlaps one that is in use: a host can have each only once",
            "omit gateway and netmask, or choose another network",
        )


def _whole(subnet: Subnet) -> Subnet:
    """Return a subnet with all addresses on the larger side of its gateway."""
    lowest, highest = subnet.cidr[1], subnet.cidr[-2]
    before, after = int(subnet.gateway) - int(lowest), int(highest) - int(subnet.gateway)
    if after >= before:
        return Subnet(subnet.cidr, subnet.gateway, IPv4Address(int(subnet.gateway) + 1), highest)
    return Subnet(subnet.cidr, subnet.gateway, lowest, IPv4Address(int(subnet.gateway) - 1))
