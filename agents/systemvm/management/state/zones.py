# SPDX-License-Identifier: Apache-2.0
"""Zones, hosts and image stores: rows for what the configuration files describe."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError, Rows
from systemvm.wire.s3_bucket import parse_bucket_url
from systemvm.wire.storage import Store

#: Providers of image stores, as CloudStack names them.
NFS, S3 = "NFS", "S3"
#: Their roles (DataStoreRole): content, or copies of it that hosts can read.
IMAGE, IMAGE_CACHE = "Image", "ImageCache"


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
    dns6: list[str]
    network_domain: str | None
    origin: str  # FROM_FILE or FROM_API: where its settings are
    imported: datetime | None  # when its file's networks became rows
    created: datetime
    removed: datetime | None


@frozen
class Host:
    id: int
    uuid: str
    account_id: int  # that registered it, and owns its VMs
    domain_id: int
    zone_id: int | None
    name: str
    hypervisor: str
    arch: str | None
    address: str | None
    state: str
    version: str | None
    cluster_id: int | None
    cpus: int | None
    memory_mib: int | None
    has_uefi: bool | None
    last_seen: datetime | None
    created: datetime
    removed: datetime | None

    @property
    def is_driven(self) -> bool:
        """Whether a daemon of this cloud runs there."""
        return self.hypervisor == "KVM"


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
    provider: str
    origin: str
    mount_options: str
    retiring: datetime | None
    role: str
    created: datetime
    removed: datetime | None

    @property
    def wire(self) -> Store:
        """The store as it is sent to agents; a bucket is without its keys (`image_stores/buckets.py`)."""
        if self.is_bucket:
            return Store.of_bucket(parse_bucket_url(self.url), read_only=self.read_only)
        parts = urlsplit(self.url)
        return Store(
            server=parts.hostname or "",
            path=parts.path.rstrip("/"),
            nfs_version=self.nfs_version,
            mount_options=self.mount_options,
            read_only=self.read_only,
        )

    @property
    def is_bucket(self) -> bool:
        return self.provider == S3

    @property
    def is_staging(self) -> bool:
        """Whether it only has copies for hosts of what is in buckets."""
        return self.role == IMAGE_CACHE

    @property
    def is_unlimited(self) -> bool:
        """Whether it takes any amount: a bucket that has been given no capacity."""
        return self.is_bucket and not self.capacity_bytes

    @property
    def takes_content(self) -> bool:
        """Whether new templates and copies can be placed on it."""
        return not self.read_only and self.retiring is None

    @property
    def used_ratio(self) -> float:
        """How full it is as far as known, from 0 to 1."""
        return (self.used_bytes or 0) / self.capacity_bytes if self.capacity_bytes else 0.0


#: What owns a store's row: the zone's file, or addImageStore.
FROM_FILE, FROM_API = "file", "api"

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
    """Create or update the row of a zone's file; once the file is imported, only the API changes the row."""
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
    if found.imported is not None:
        return zone_rows.update(connection, found.id, origin=FROM_FILE)
    return zone_rows.update(connection, found.id, **values)


def release_zones(connection: sa.Connection, names: Collection[str]) -> list[Zone]:
    """Hand the zones that no longer have a file over to the API; return them."""
    c = schema.zones.c
    gone = (c.origin == FROM_FILE, c.name.not_in(list(names)), c.removed.is_(None), c.imported.is_not(None))
    released = zone_rows.all(connection, *gone)
    zone_rows.update_where(connection, *gone, origin=FROM_API)
    return released


def list_hosts(connection: sa.Connection, zone_id: int | None = None) -> list[Host]:
    c = schema.hosts.c
    where = [c.removed.is_(None)] + ([] if zone_id is None else [c.zone_id == zone_id])
    return host_rows.all(connection, *where)


def count_hosts(connection: sa.Connection, cluster_id: int) -> int:
    """Return how many hosts are in a cluster."""
    c = schema.hosts.c
    query = sa.select(sa.func.count()).where(c.cluster_id == cluster_id, c.removed.is_(None))
    return int(connection.scalar(query) or 0)


def put_host(
    connection: sa.Connection,
    name: str,
    *,
    zone_id: int | None,
    arch: str,
    address: str,
    version: str,
    cpus: int | None = None,
    memory_mib: int | None = None,
    has_uefi: bool = False,
) -> Host:
    """Create or update the row of the host that this daemon drives; a host in a cluster keeps its zone."""
    values = {
        "arch": arch,
        "address": address,
        "version": version,
        "cpus": cpus,
        "memory_mib": memory_mib,
        "has_uefi": has_uefi,
        "state": "Up",
        "last_seen": now(),
    }
    known = [host for host in list_hosts(connection) if host.is_driven]
    found = next((host for host in known if host.name == name), None)
    if found is None and len(known) == 1 and connection.dialect.name == "sqlite":
        # An SQLite file belongs to one host only, so that host was renamed and keeps its machines.
        found = known[0]
    if found is None:
        return host_rows.insert(connection, name=name, zone_id=zone_id, **values)
    if found.cluster_id is None:
        values["zone_id"] = zone_id
    return host_rows.update(connection, found.id, name=name, **values)


def list_stores(connection: sa.Connection, zone_id: int | None = None) -> list[ImageStore]:
    """Return the stores of a zone, or of all, staging stores among them: SSVMs mount every one."""
    c = schema.image_stores.c
    where = [c.removed.is_(None)] + ([] if zone_id is None else [c.zone_id == zone_id])
    return store_rows.all(connection, *where)


def list_image_stores(connection: sa.Connection, zone_id: int | None = None) -> list[ImageStore]:
    """Return the stores that hold content, without staging stores."""
    return [store for store in list_stores(connection, zone_id) if not store.is_staging]


def list_staging_stores(connection: sa.Connection, zone_id: int | None = None) -> list[ImageStore]:
    return [store for store in list_stores(connection, zone_id) if store.is_staging]


def image_store_by_uuid(connection: sa.Connection, uuid: str) -> ImageStore:
    """Return a store that holds content.

    Raises: NotFoundError when there is none with this id, or it is a staging store.
    """
    store = store_by_uuid(connection, uuid)
    if store.is_staging:
        raise NotFoundError(f"store {store.name} is a staging store, and not an image store")
    return store


def staging_store_by_uuid(connection: sa.Connection, uuid: str) -> ImageStore:
    """Return a staging store.

    Raises: NotFoundError when there is none with this id, or it is an image store.
    """
    store = store_by_uuid(connection, uuid)
    if not store.is_staging:
        raise NotFoundError(f"store {store.name} is an image store, and not a staging store")
    return store


def put_store(
    connection: sa.Connection,
    name: str,
    *,
    zone_id: int,
    url: str,
    host_path: str | None,
    nfs_version: str,
    mount_options: str = "",
    read_only: bool | None = None,
) -> ImageStore:
    """Create or update the row of a store of a zone's file; `read_only` None keeps what the API has set."""
    c = schema.image_stores.c
    values: dict[str, Any] = {
        "url": url,
        "host_path": host_path,
        "nfs_version": nfs_version,
        "mount_options": mount_options,
        "origin": FROM_FILE,
    }
    if read_only is not None:
        values["read_only"] = read_only
    found = store_rows.one(connection, c.name == name, c.zone_id == zone_id, c.removed.is_(None))
    if found is None:
        return store_rows.insert(connection, name=name, zone_id=zone_id, **values)
    return store_rows.update(connection, found.id, **values)


def release_stores(connection: sa.Connection, zone_id: int, names: Collection[str]) -> list[ImageStore]:
    """Hand the stores that a zone's file no longer names over to the API; return them."""
    c = schema.image_stores.c
    gone = (c.zone_id == zone_id, c.origin == FROM_FILE, c.name.not_in(list(names)), c.removed.is_(None))
    released = store_rows.all(connection, *gone)
    store_rows.update_where(connection, *gone, origin=FROM_API)
    return released


def add_store(connection: sa.Connection, /, **columns: Any) -> ImageStore:
    """Create the row of a store that the API adds."""
    return store_rows.insert(connection, origin=FROM_API, **columns)


def update_store(connection: sa.Connection, store_id: int, /, **changes: Any) -> ImageStore:
    return store_rows.update(connection, store_id, **changes)


def remove_store(connection: sa.Connection, store_id: int) -> None:
    store_rows.update_where(connection, schema.image_stores.c.id == store_id, removed=now())


def set_store_usage(
    connection: sa.Connection, store_id: int, capacity_bytes: int, used_bytes: int
) -> ImageStore:
    """Record the size of a store; a capacity of 0 is none that is known."""
    return store_rows.update(
        connection, store_id, capacity_bytes=capacity_bytes or None, used_bytes=used_bytes
    )
