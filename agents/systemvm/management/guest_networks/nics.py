# SPDX-License-Identifier: Apache-2.0
"""NICs on guest networks: each gets an address when the network has any, until its VM is expunged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from attrs import frozen

from systemvm.host.zone import TrafficType
from systemvm.management.guest_networks.vlans import bridge_of_network
from systemvm.management.state import address_ranges, addresses, guest_networks, instances
from systemvm.management.state.address_ranges import Address, NetworkRange
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import GuestType
from systemvm.management.virtual_machines.errors import NotDeployableError

_GUEST = TrafficType.GUEST


@frozen
class WantedNic:
    """A NIC on a network of `state/guest_networks.py`, or on the zone's own; an address if it matters."""

    network_id: int | None = None
    address: IPv4Address | None = None


def add_guest_nics(
    connection: Connection, vm: Instance, wanted: Sequence[WantedNic], *, bridge: str, mac: Callable[[], str]
) -> None:
    """Add eth0, eth1, … of a VM on guest networks of its zone.

    Raises: NotDeployableError when the VM cannot have an address that is wanted; PoolExhaustedError.
    """
    created = guest_networks.by_ids(connection, {nic.network_id for nic in wanted})
    ranges = [each for each in address_ranges.list_ranges(connection, vm.zone_id, _GUEST) if each.size]
    for device, nic in enumerate(wanted):
        network = None if nic.network_id is None else created.get(nic.network_id)
        if network is not None and (network.removed is not None or not network.is_usable_by(vm.account_id)):
            raise NotDeployableError(
                f"network {network.name} was deleted", "choose another network", parameter="networkids"
            )
        usable = [each for each in ranges if each.guest_network_id == nic.network_id]
        found: tuple[NetworkRange, Address] | None = None
        if nic.address is not None:
            if network is not None and network.guest_type is GuestType.L2:
                raise NotDeployableError(
                    f"ipaddress: the cloud has no addresses on L2 network {network.name}",
                    "omit ipaddress",
                    parameter="ipaddress",
                )
            found = _claim(connection, usable, vm, nic.address)
        elif usable:
            found = addresses.allocate_from(connection, usable, vm_id=vm.id)
        of_range, address = found or (None, None)
        instances.add_nic(
            connection,
            vm_id=vm.id,
            device=device,
            traffic_type=_GUEST.value,
            bridge=bridge_of_network(bridge, network),
            mac=mac(),
            address=None if address is None else str(address),
            netmask=None if of_range is None else str(of_range.cidr.netmask),
            gateway=None if of_range is None or of_range.gateway is None else str(of_range.gateway),
            guest_network_id=nic.network_id,
        )


def _claim(
    connection: Connection, ranges: list[NetworkRange], vm: Instance, wanted: IPv4Address
) -> tuple[NetworkRange, IPv4Address]:
    of_range = next((each for each in ranges if wanted in each), None)
    if of_range is None:
        known = ", ".join(each.span_text for each in ranges)
        raise NotDeployableError(
            f"ipaddress: {wanted} is not an address of the guest network",
            f"choose one from {known}" if known else "add addresses to it with createVlanIpRange",
            parameter="ipaddress",
        )
    if not addresses.claim(
        connection, zone_id=vm.zone_id, traffic_type=_GUEST.value, address=wanted, vm_id=vm.id
    ):
        raise NotDeployableError(
            f"ipaddress: {wanted} is the address of another virtual machine",
            "choose another one, or omit ipaddress",
            parameter="ipaddress",
        )
    return of_range, wanted
