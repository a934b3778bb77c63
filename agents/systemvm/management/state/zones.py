# SPDX-License-Identifier: Apache-2.0
"""Zones, hosts and image stores: rows for what the configuration files describe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows


@frozen
class Zone:
    id: int
    uuid: str
    name: str
    description: str
    network_type: str
    allocation_state: str
    arch: str | None
    dns: list[str]
    internal_dns: list[str]
    created: datetime
    removed: datetime | None


@frozen
class Host:
    id: int
    uuid: str
    zone_id: int | None
    name: str
    hypervisor: str
    arch: str | None
    address: str | None
    state: str
    version: str | None
    created: datetime
    removed: datetime | None


@frozen
class ImageStore:
    id: int
    uuid: str
    zone_id: int
    name: str
    url: str
    host_path: str | None
    nfs_version: str
    read_only: bool
    capacity_bytes: int | None
    used_bytes: int | None
    created: datetime
    removed: datetime | None


zone_rows = Rows(schema.zones, Zone, "zone")
host_rows = Rows(schema.hosts, Host, "host")
store_rows = Rows(schema.image_stores, ImageStore, "image store")

zone_by_id = zone_rows.by_id
zone_by_uuid = zone_rows.by_uuid
host_by_id = host_rows.by_id
host_by_uuid = host_rows.by_uuid
store_by_id = store_rows.by_id
store_by_uuid = store_rows.by_uuid


def all_zones(connection: sa.Connection) -> list[Zone]:
    """Return every zone, removed ones included."""
    return zone_rows.all(connection)


def all_hosts(connection: sa.Connection) -> list[Host]:
    """Return every host, removed ones included."""
    return host_rows.all(connection)


def all_stores(connection: sa.Connection) -> list[ImageStore]:
    """Return every image store, removed ones included."""
    return store_rows.all(connection)


def list_zones(connection: sa.Connection) -> list[Zone]:
    return zone_rows.all(connection, schema.zones.c.removed.is_(None))


def put_zone(
    connection: sa.Connection,
    name: str,
    *,
    arch: str,
    description: str = "",
    dns: Sequence[str] = (),
    internal_dns: Sequence[str] = (),
) -> Zone:
    """Create or update the row of a configured zone."""
    values = {
        "arch": arch,
        "description": description,
        "dns": list(dns),
        "internal_dns": list(internal_dns),
        "removed": None,
    }
    found = zone_rows.one(connection, schema.zones.c.name == name)
    if found is None:
        return zone_rows.insert(connection, name=name, **values)
    return zone_rows.update(connection, found.id, **values)


def list_hosts(connection: sa.Connection, zone_id: int | None = None) -> list[Host]:
    c = schema.hosts.c
    where = [c.removed.is_(None)] + ([] if zone_id is None else [c.zone_id == zone_id])
    return host_rows.all(connection, *where)


def put_host(
    connection: sa.Connection, name: str, *, zone_id: int, arch: str, address: str, version: str
) -> Host:
    """Create or update the row of the host that this daemon drives."""
    values = {
        "zone_id": zone_id,
        "arch": arch,
        "address": address,
        "version": version,
        "state": "Up",
        "last_seen": now(),
    }
    known = list_hosts(connection)
    found = next((host for host in known if host.name == name), None)
    if found is None and len(known) == 1 and connection.dialect.name == "sqlite":
        # An SQLite file belongs to one host only, so that host was renamed and keeps its machines.
        found = known[0]
    if found is None:
        return host_rows.insert(connection, name=name, **values)
    return host_rows.update(connection, found.id, name=name, **values)


def list_stores(connection: sa.Connection, zone_id: int | None = None) -> list[ImageStore]:
    c = schema.image_stores.c
    where = [c.removed.is_(None)] + ([] if zone_id is None else [c.zone_id == zone_id])
    return store_rows.all(connection, *where)


def put_store(
    connection: sa.Connection,
    name: str,
    *,
    zone_id: int,
    url: str,
    host_path: str | None,
    nfs_version: str,
    read_only: bool = False,
) -> ImageStore:
    c = schema.image_stores.c
    values = {"url": url, "host_path": host_path, "nfs_version": nfs_version, "read_only": read_only}
    found = store_rows.one(connection, c.name == name, c.zone_id == zone_id, c.removed.is_(None))
    if found is None:
        return store_rows.insert(connection, name=name, zone_id=zone_id, **values)
    return store_rows.update(connection, found.id, **values)


def set_store_usage(
    connection: sa.Connection, store_id: int, capacity_bytes: int, used_bytes: int
) -> ImageStore:
    return store_rows.update(connection, store_id, capacity_bytes=capacity_bytes, used_bytes=used_bytes)
