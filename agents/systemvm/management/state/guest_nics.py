# SPDX-License-Identifier: Apache-2.0
"""NICs of users' VMs to which the cloud gave an address, with the names of their VMs."""

from __future__ import annotations

from ipaddress import IPv4Address

import sqlalchemy as sa
from attrs import frozen

from systemvm.host.zone import TrafficType
from systemvm.management.state import schema
from systemvm.management.state.status import GuestType


@frozen
class GuestNic:
    vm_id: int
    vm_uuid: str
    host_id: int | None
    zone_id: int
    name: str  # the host name of its VM
    device: int
    bridge: str
    mac: str
    address: IPv4Address


def list_addressed(connection: sa.Connection, vm_id: int | None = None) -> list[GuestNic]:
    """Return those of one VM, or of all, that are not expunged, in the order of their deployment."""
    v, n = schema.vm_instances.c, schema.nics.c
    query = (
        sa.select(v.id, v.uuid, v.host_id, v.zone_id, v.name, n.device, n.bridge, n.mac, n.address)
        .select_from(sa.join(schema.nics, schema.vm_instances, n.vm_id == v.id))
        .where(
            n.traffic_type == TrafficType.GUEST.value,
            n.address.is_not(None),
            n.removed.is_(None),
            v.removed.is_(None),
        )
        .order_by(v.id, n.device)
    )
    if vm_id is not None:
        query = query.where(v.id == vm_id)
    return [GuestNic(*row[:8], IPv4Address(row[8])) for row in connection.execute(query)]


def list_l2_ports(connection: sa.Connection, host_id: int) -> list[tuple[str, int]]:
    """Return the UUID and the device of each NIC on an L2 network, of a host's VMs and of those on none."""
    v, n, g = schema.vm_instances.c, schema.nics.c, schema.guest_networks.c
    query = (
        sa.select(v.uuid, n.device)
        .select_from(
            sa.join(schema.nics, schema.vm_instances, n.vm_id == v.id).join(
                schema.guest_networks, n.guest_network_id == g.id
            )
        )
        .where(
            g.guest_type == GuestType.L2,
            n.removed.is_(None),
            v.removed.is_(None),
            sa.or_(v.host_id.is_(None), v.host_id == host_id),
        )
        .order_by(v.id, n.device)
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def machines_on(connection: sa.Connection, network_id: int) -> list[str]:
    """Return the names of VMs with a NIC on a network, with an address or without."""
    v, n = schema.vm_instances.c, schema.nics.c
    query = (
        sa.select(v.name)
        .select_from(sa.join(schema.nics, schema.vm_instances, n.vm_id == v.id))
        .where(n.guest_network_id == network_id, n.removed.is_(None), v.removed.is_(None))
        .order_by(v.id)
    )
    return [*connection.execute(query).scalars()]
