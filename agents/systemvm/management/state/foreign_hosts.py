# SPDX-License-Identifier: Apache-2.0
"""Hosts that no daemon drives: how their APIs are reached, and which of them are due to be listed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema, zones
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError, Rows
from systemvm.management.state.zones import Host


@frozen
class ForeignHost:
    """The access to one host's API, and what its last listing found."""

    id: int
    host_id: int
    url: str
    username: str
    sealed_password: bytes = field(repr=False)
    ca_pem: str | None = field(repr=False)
    fingerprint: str
    addresses: list[str]  # of consoles, which console proxies may reach
    reason: str | None  # why it is not Up
    hint: str | None
    failures: int  # in a row
    due: datetime  # when it is listed again
    removed: datetime | None


rows = Rows(schema.foreign_hosts, ForeignHost, "host")
_c = schema.foreign_hosts.c
_h = schema.hosts.c


def add(connection: sa.Connection, /, host_id: int, **columns: Any) -> ForeignHost:
    return rows.insert(connection, host_id=host_id, **columns)


def update(connection: sa.Connection, /, host_id: int, **changes: Any) -> None:
    rows.update_where(connection, _c.host_id == host_id, _c.removed.is_(None), **changes)


def of_host(connection: sa.Connection, host_id: int) -> ForeignHost:
    """Return the access to a host.

    Raises: NotFoundError when a daemon drives it, or it is removed.
    """
    found = rows.one(connection, _c.host_id == host_id, _c.removed.is_(None))
    if found is None:
        raise NotFoundError(f"host {host_id} has no API of its own")
    return found


def by_host(connection: sa.Connection) -> dict[int, ForeignHost]:
    """Return all that are not removed, by the number of their host."""
    return {row.host_id: row for row in rows.all(connection, _c.removed.is_(None))}


def claim_due(connection: sa.Connection, lease: timedelta) -> list[int]:
    """Return the numbers of the hosts that are due, which no other daemon lists for the time of `lease`."""
    begin = now()
    due = rows.all(connection, _c.due <= begin, _c.removed.is_(None), order_by=[_c.due])
    return [
        row.host_id
        for row in due
        if rows.update_where(connection, _c.id == row.id, _c.due == row.due, due=begin + lease)
    ]


def remove(connection: sa.Connection, host_id: int) -> None:
    """Remove a host; its password is deleted."""
    rows.update_where(connection, _c.host_id == host_id, removed=now(), sealed_password=b"")
    zones.host_rows.update(connection, host_id, removed=now(), state="Removed")


def same_place(connection: sa.Connection, url: str, name: str) -> Host | None:
    """Return the host that has this URL or name already."""
    query = (
        sa.select(_h.id)
        .select_from(schema.hosts.outerjoin(schema.foreign_hosts, _c.host_id == _h.id))
        .where(_h.removed.is_(None), sa.or_(_c.url == url, sa.func.lower(_h.name) == name.lower()))
    )
    found = connection.scalars(query).first()
    return None if found is None else zones.host_by_id(connection, found)


def addresses_of_zone(connection: sa.Connection, zone_id: int) -> list[str]:
    """Return the addresses that the consoles of a zone's hosts are at."""
    query = (
        sa.select(_c.addresses)
        .select_from(schema.foreign_hosts.join(schema.hosts, _c.host_id == _h.id))
        .where(_h.zone_id == zone_id, _h.removed.is_(None), _c.removed.is_(None))
    )
    return sorted({address for addresses in connection.scalars(query) for address in addresses})
