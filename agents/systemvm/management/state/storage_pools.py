# SPDX-License-Identifier: Apache-2.0
"""Primary storage pools: where disks of VMs are."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.rows import Rows

#: Types of CloudStack's that are supported: a directory of one host, a directory that is the same on every
#: host, and an NFS export.
FILESYSTEM, SHARED_MOUNT_POINT, NFS_POOL = "Filesystem", "SharedMountPoint", "NetworkFilesystem"
HOST, CLUSTER, ZONE = "HOST", "CLUSTER", "ZONE"
UP, DISABLED, MAINTENANCE = "Up", "Disabled", "Maintenance"


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
    def place(self) -> str:
        """Its directory or export, which no other pool of the same host can have."""
        return f"{self.server}:{self.path}" if self.server else self.path


rows = Rows(schema.storage_pools, StoragePool, "storage pool")
by_id = rows.by_id
by_uuid = rows.by_uuid


def list_pools(connection: sa.Connection, zone_id: int | None = None) -> list[StoragePool]:
    c = schema.storage_pools.c
    return rows.all(connection, c.removed.is_(None), *([] if zone_id is None else [c.zone_id == zone_id]))


def pool_of_host(connection: sa.Connection, host_id: int) -> StoragePool | None:
    """Return the pool that is a host's own directory."""
    c = schema.storage_pools.c
    return rows.one(connection, c.host_id == host_id, c.removed.is_(None))


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
