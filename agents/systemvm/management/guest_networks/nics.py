# SPDX-License-Identifier: Apache-2.0
"""NICs on guest networks: each gets an address when the network has any, until its VM is expunged."""

from __future__ import annotations

from ipaddress import IPv4Address

from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, addresses, instances
from systemvm.management.state.address_ranges import NetworkRange
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.virtual_machines.errors import NotDeployableError

_GUEST = TrafficType.GUEST


def add_guest_nic(
    connection: Connection, vm: Instance, *, bridge: str, mac: str, wanted: IPv4Address | None
) -> None:
    """Add eth0 of a VM on the guest network of its zone.

    Raises: NotDeployableError when the VM cannot have the address that is wanted; PoolExhaustedError.
    """
    ranges = [each for each in address_ranges.list_ranges(connection, vm.zone_id, _GUEST) if each.size]
    found: tuple[NetworkRange, IPv4Address] | None = None
    if wanted is not None:
        found = _claim(connection, ranges, vm, wanted)
    elif ranges:
        found = addresses.allocate_from(connection, ranges, vm_id=vm.id)
    of_range, address = found or (None, None)
    instances.add_nic(
        connection,
        vm_id=vm.id,
        device=0,
        traffic_type=_GUEST.value,
        bridge=bridge,
        mac=mac,
        address=None if address is None else str(address),
        netmask=None if of_range is None else str(of_range.cidr.netmask),
        gateway=None if of_range is None or of_range.gateway is None else str(of_range.gateway),
    )


def _claim(
    connection: Connection, ranges: list[NetworkRange], vm: Instance, wanted: IPv4Address
) -> tuple[NetworkRange, IPv4Address]:
    of_range = next((each for each in ranges if wanted in each), None)
    if of_range is None:
        known = ", ".join(f"{each.first}–{each.last}" for each in ranges)
        raise NotDeployableError(
            f"ipaddress: {wanted} is not an address of the guest network",
            f"choose one from {known}" if known else "add addresses to it with createVlanIpRange",
        )
    if not addresses.claim(
        connection, zone_id=vm.zone_id, traffic_type=_GUEST.value, address=wanted, vm_id=vm.id
    ):
        raise NotDeployableError(
            f"ipaddress: {wanted} is the address of another virtual machine",
            "choose another one, or omit ipaddress",
        )
    return of_range, wanted
