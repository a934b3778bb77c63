# SPDX-License-Identifier: Apache-2.0
"""Addresses in use by zone and traffic type; every other address of a pool is free."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address

import sqlalchemy as sa
from attrs import frozen

from systemvm.host.zone import TrafficType
from systemvm.management.state import schema
from systemvm.management.state.address_ranges import Address, NetworkRange
from systemvm.management.state.status import InstanceType
from systemvm.service.errors import FailureCode, SystemVmError

_a = schema.ip_addresses.c

#: How many random addresses are tried before the first free one of the pool is taken.
RANDOM_TRIES = 32


class PoolExhaustedError(SystemVmError):
    """No address is left in a pool."""

    code = FailureCode.NO_CAPACITY


def in_use(connection: sa.Connection, zone_id: int, traffic_type: str) -> set[Address]:
    """Return the addresses that VMs have; link-local ones of all zones, whose VMs share a host's network."""
    query = sa.select(_a.address).where(_a.traffic_type == traffic_type)
    if traffic_type != TrafficType.CONTROL.value:
        query = query.where(_a.zone_id == zone_id)
    return {ip_address(text) for text in connection.execute(query).scalars()}


def allocate_from(
    connection: sa.Connection, ranges: Sequence[NetworkRange], *, vm_id: int, randomly: bool = False
) -> tuple[NetworkRange, Address]:
    """Allocate an address for a VM from the first of several ranges that has one; return both.

    Raises: PoolExhaustedError when none has.
    """
    exhausted = PoolExhaustedError("there is no range")
    for each in ranges:
        if each.first is None or each.last is None:
            continue
        try:
            return each, allocate(
                connection,
                zone_id=each.zone_id,
                traffic_type=each.traffic_type.value,
                first=each.first,
                last=each.last,
                vm_id=vm_id,
                randomly=randomly,
            )
        except PoolExhaustedError as error:
            exhausted = error
    raise exhausted


def allocate(
    connection: sa.Connection,
    *,
    zone_id: int,
    traffic_type: str,
    first: Address,
    last: Address,
    vm_id: int,
    randomly: bool = False,
) -> Address:
    """Allocate an address from `first`–`last` for a VM: the lowest free one, or a random one.

    Link-local addresses are random, so that the address of a removed VM, which can be in an ARP cache, is
    not soon given to another. The search ends at the first free address, so that a /64 costs no more than a
    small range.

    Raises: PoolExhaustedError when no address is free.
    """
    used = in_use(connection, zone_id, traffic_type)
    address: Address | None = None
    if randomly:
        choices = (type(first)(random.randint(int(first), int(last))) for _ in range(RANDOM_TRIES))  # noqa: S311
        address = next((choice for choice in choices if choice not in used), None)
    if address is None:
        walk = (type(first)(number) for number in range(int(first), int(last) + 1))
        address = next((choice for choice in walk if choice not in used), None)
    if address is None:
        raise PoolExhaustedError(
            f"no free {traffic_type} address: all of {first}–{last} in zone {zone_id} are in use"
        )
    _insert(connection, zone_id, traffic_type, address, vm_id)
    return address


def claim(
    connection: sa.Connection, *, zone_id: int, traffic_type: str, address: Address, vm_id: int
) -> bool:
    """Allocate this address for a VM; return False when another one has it."""
    if address in in_use(connection, zone_id, traffic_type):
        return False
    _insert(connection, zone_id, traffic_type, address, vm_id)
    return True


def _insert(connection: sa.Connection, zone_id: int, traffic_type: str, address: Address, vm_id: int) -> None:
    connection.execute(
        schema.ip_addresses.insert().values(
            zone_id=zone_id, traffic_type=traffic_type, address=str(address), vm_id=vm_id
        )
    )


def of_vm(connection: sa.Connection, vm_id: int) -> dict[str, str]:
    """Return a VM's addresses by traffic type."""
    query = sa.select(_a.traffic_type, _a.address).where(_a.vm_id == vm_id)
    return {kind: str(ip_address(text)) for kind, text in connection.execute(query)}


@frozen
class SystemVmAddress:
    """An address that a system VM has."""

    uuid: str
    address: str
    zone_id: int
    vm_uuid: str
    vm_name: str
    created: datetime


def of_system_vms(connection: sa.Connection, traffic_type: str) -> list[SystemVmAddress]:
    """Return the system VMs' addresses of one traffic type, in the order of their allocation."""
    vms = schema.vm_instances.c
    query = (
        sa.select(_a.uuid, _a.address, _a.zone_id, vms.uuid, vms.instance_name, _a.created)
        .join_from(schema.ip_addresses, schema.vm_instances, vms.id == _a.vm_id)
        .where(_a.traffic_type == traffic_type, vms.type != InstanceType.USER)
        .order_by(_a.id)
    )
    return [SystemVmAddress(*row) for row in connection.execute(query)]
