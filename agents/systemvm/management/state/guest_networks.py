# SPDX-License-Identifier: Apache-2.0
"""Guest networks that the API has made. What is on none of them is on the zone's own guest network."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import GuestNetworkState, GuestType, InstanceState


@frozen
class GuestNetwork:
    id: int
    uuid: str
    zone_id: int
    name: str
    display_text: str
    network_domain: str | None  # the zone's without one
    guest_type: GuestType
    account_id: int | None  # the owner; None: it is shared
    state: GuestNetworkState
    vlan: int | None
    created: datetime
    removed: datetime | None

    @property
    def is_shared(self) -> bool:
        """Whether it is for all accounts; any other one gets a VLAN by itself."""
        return self.guest_type is GuestType.SHARED

    @property
    def is_isolated(self) -> bool:
        return self.guest_type is GuestType.ISOLATED

    def is_usable_by(self, account_id: int) -> bool:
        """Whether VMs of an account can be on it."""
        return self.is_shared or self.account_id == account_id


rows = Rows(schema.guest_networks, GuestNetwork, "network")
by_uuid = rows.by_uuid
by_ids = rows.by_ids


def list_networks(connection: sa.Connection, zone_id: int | None = None) -> list[GuestNetwork]:
    """Return networks, the oldest first."""
    c = schema.guest_networks.c
    of_zone = [] if zone_id is None else [c.zone_id == zone_id]
    return rows.all(connection, c.removed.is_(None), *of_zone)


def visible_to(connection: sa.Connection, account_ids: frozenset[int] | None) -> list[GuestNetwork]:
    """Return shared networks and those of these accounts, the oldest first; with None all."""
    c = schema.guest_networks.c
    owned = [] if account_ids is None else [sa.or_(c.account_id.is_(None), c.account_id.in_(account_ids))]
    return rows.all(connection, c.removed.is_(None), *owned)


def of_vm(connection: sa.Connection, vm_id: int) -> list[GuestNetwork]:
    """Return the networks of a VM, in the order of its NICs."""
    n = schema.nics.c
    query = sa.select(n.guest_network_id).where(n.vm_id == vm_id, n.removed.is_(None)).order_by(n.device)
    numbers = [*connection.execute(query).scalars()]
    found = by_ids(connection, numbers)
    return [found[number] for number in numbers if number in found]


def put_on_bridge(connection: sa.Connection, network_id: int, bridge: str) -> None:
    """Note the bridge of a network at its NICs."""
    n = schema.nics.c
    where = (n.guest_network_id == network_id, n.removed.is_(None))
    connection.execute(schema.nics.update().where(*where).values(bridge=bridge))


def unused(connection: sa.Connection) -> list[GuestNetwork]:
    """Return networks of accounts that have a VLAN, and on which no VM runs, starts or ends."""
    c, n, v = schema.guest_networks.c, schema.nics.c, schema.vm_instances.c
    active = [state for state in InstanceState if state.has_process]
    used = (
        sa.select(n.guest_network_id)
        .select_from(sa.join(schema.nics, schema.vm_instances, n.vm_id == v.id))
        .where(n.guest_network_id.is_not(None), n.removed.is_(None), v.removed.is_(None), v.state.in_(active))
    )
    return rows.all(
        connection,
        c.removed.is_(None),
        c.guest_type != GuestType.SHARED,
        c.vlan.is_not(None),
        c.id.not_in(used),
    )


def remove(connection: sa.Connection, network_id: int) -> None:
    """Mark a network and its ranges as removed; it has no VLAN any more."""
    r = schema.address_ranges.c
    ranges = schema.address_ranges.update()
    connection.execute(
        ranges.where(r.guest_network_id == network_id, r.removed.is_(None)).values(removed=now())
    )
    rows.update(connection, network_id, removed=now(), vlan=None)


def remove_of_account(connection: sa.Connection, account_id: int) -> None:
    """Remove the networks of an account, whose VMs are expunged."""
    c = schema.guest_networks.c
    for network in rows.all(connection, c.removed.is_(None), c.account_id == account_id):
        remove(connection, network.id)
