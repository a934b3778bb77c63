# SPDX-License-Identifier: Apache-2.0
"""Primary storage pools: where disks of VMs are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows

#: Types of CloudStack's that are supported: a directory of one host, a directory that is the same on every
#: host, and an NFS export.
FILESYSTEM, SHARED_MOUNT_POINT, NFS_POOL = "Filesystem", "SharedMountPoint", "NetworkFilesystem"
HOST, CLUSTER, ZONE = "HOST", "CLUSTER", "ZONE"
#: CloudStack's states (StoragePoolStatus).
UP, DISABLED, MAINTENANCE = "Up", "Disabled", "Maintenance"
PREPARING, FAILED_MAINTENANCE = "PrepareForMaintenance", "ErrorInMaintenance"


@frozen
class StoragePool:
    id: int
    uuid: str
    zone_id: int
    pod_id: int | None
    cluster_id: int | None
    host_id: int | None
    name: str
    scope: str
    type: str
    server: str | None
    path: str
    state: str
    tags: str
    created: datetime
    removed: datetime | None

    @property
    def is_local(self) -> bool:
        """Whether only the machines of one host can use it."""
        return self.scope == HOST

    @property
    def is_own_directory(self) -> bool:
        """Whether it is the directory of a host's daemon, which is there without a request."""
        return self.type == FILESYSTEM

    @property
    def tag_set(self) -> frozenset[str]:
        return tags_of(self.tags)

    @property
    def place(self) -> str:
        """Its directory or export, which no other pool of the same host can have."""
        return f"{self.server}:{self.path}" if self.server else self.path


def tags_of(text: str) -> frozenset[str]:
    """Return comma-separated tags."""
    return frozenset(filter(None, text.split(",")))


rows = Rows(schema.storage_pools, StoragePool, "storage pool")
by_id = rows.by_id
by_uuid = rows.by_uuid
_c = schema.storage_pools.c


def create(connection: sa.Connection, /, **columns: Any) -> StoragePool:
    return rows.insert(connection, **columns)


def update(connection: sa.Connection, /, pool_id: int, **changes: Any) -> StoragePool:
    return rows.update(connection, pool_id, **changes)


def list_pools(connection: sa.Connection, zone_id: int | None = None) -> list[StoragePool]:
    return rows.all(connection, _c.removed.is_(None), *([] if zone_id is None else [_c.zone_id == zone_id]))


def lock(connection: sa.Connection) -> None:
    """Let no other transaction lock the pools until this one ends; SQLite has one writer anyway."""
    connection.execute(sa.select(_c.id).where(_c.removed.is_(None)).order_by(_c.id).with_for_update())


def list_created(connection: sa.Connection, zone_id: int | None = None) -> list[StoragePool]:
    """Return the pools that the API has created: all but the hosts' own directories."""
    return [pool for pool in list_pools(connection, zone_id) if not pool.is_own_directory]


def pool_of_host(connection: sa.Connection, host_id: int) -> StoragePool | None:
    """Return the pool that is a host's own directory."""
    return rows.one(connection, _c.host_id == host_id, _c.type == FILESYSTEM, _c.removed.is_(None))


def put_pool_of_host(
    connection: sa.Connection,
    *,
    uuid: str,
    host_id: int,
    name: str,
    zone_id: int,
    pod_id: int,
    cluster_id: int,
) -> StoragePool:
    """Return the pool that is a host's own directory, in this cluster.

    A host that was removed and comes back has its disks still, and so the pool of before.
    """
    place = {"name": name, "zone_id": zone_id, "pod_id": pod_id, "cluster_id": cluster_id, "removed": None}
    known = rows.one(connection, schema.storage_pools.c.uuid == uuid)
    if known is not None:
        return rows.update(connection, known.id, host_id=host_id, **place)
    return rows.insert(
        connection,
        uuid=uuid,
        host_id=host_id,
        scope=HOST,
        type=FILESYSTEM,
        path="",  # the daemon's own directory for disks
        **place,
    )


def forget_copies(connection: sa.Connection, pool_id: int) -> None:
    """Forget the copies of templates in a pool that is deleted."""
    copies = schema.template_spool_refs
    connection.execute(
        copies.update().where(copies.c.pool_id == pool_id, copies.c.removed.is_(None)).values(removed=now())
    )
