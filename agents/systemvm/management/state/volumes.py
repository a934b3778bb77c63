# SPDX-License-Identifier: Apache-2.0
"""Volumes on primary storage: root disks of users' VMs, and data disks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema, snapshot_policies
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import Provisioning, VolumeState
from systemvm.management.state.templates import VOLUME


@frozen
class Volume:
    id: int
    uuid: str
    account_id: int
    domain_id: int
    zone_id: int | None
    name: str
    type: str
    state: VolumeState
    vm_id: int | None
    template_id: int | None
    host_id: int | None
    pool_id: int | None  # None: the host's own directory
    path: str | None
    size_bytes: int | None
    device_id: int | None  # of a data disk on its VM
    attached: datetime | None  # since when it has been its VM's
    disk_offering_id: int | None
    provisioning: Provisioning
    created: datetime
    removed: datetime | None


#: CloudStack's types of volumes.
ROOT, DATA = "ROOT", "DATADISK"

rows = Rows(schema.volumes, Volume, "volume")
_c = schema.volumes.c
_refs = schema.template_store_refs.c
#: A root disk that was not resized has no size of its own: it has that of its template.
VIRTUAL_SIZE = sa.func.coalesce(
    _c.size_bytes,
    sa.select(sa.func.max(_refs.virtual_size_bytes))
    .where(_refs.template_id == _c.template_id)
    .scalar_subquery(),
)
_ALLOCATED = sa.func.sum(sa.func.coalesce(VIRTUAL_SIZE, 0))

by_id = rows.by_id
find = rows.find
by_uuid = rows.by_uuid


def create(
    connection: sa.Connection, /, *, name: str, account_id: int, vm_id: int | None, **columns: Any
) -> Volume:
    attached = None if vm_id is None else now()
    return rows.insert(
        connection, name=name, account_id=account_id, vm_id=vm_id, attached=attached, **columns
    )


def update(connection: sa.Connection, /, volume_id: int, **changes: Any) -> Volume:
    return rows.update(connection, volume_id, **changes)


def being_uploaded(connection: sa.Connection) -> list[Volume]:
    """Return the volumes whose file is on its way."""
    return rows.all(connection, _c.state == VolumeState.NOT_UPLOADED, _c.removed.is_(None))


def images_without_use(connection: sa.Connection) -> list[int]:
    """Return the images that volumes were uploaded as, and that no volume waits for any more."""
    t = schema.templates.c
    waits = sa.exists().where(
        _c.template_id == t.id, _c.removed.is_(None), _c.state.in_([s for s in VolumeState if s.is_upload])
    )
    return list(connection.scalars(sa.select(t.id).where(t.type == VOLUME, t.removed.is_(None), ~waits)))


def root_of(connection: sa.Connection, vm_id: int) -> Volume | None:
    return rows.one(connection, _c.vm_id == vm_id, _c.type == ROOT, _c.removed.is_(None))


def data_of(connection: sa.Connection, vm_id: int) -> list[Volume]:
    """Return the data volumes of a VM, in the order of their device numbers."""
    where = (_c.vm_id == vm_id, _c.type == DATA, _c.removed.is_(None))
    return rows.all(connection, *where, order_by=(_c.device_id,))


def of_account(connection: sa.Connection, account_id: int) -> list[Volume]:
    """Return an account's data volumes."""
    return rows.all(connection, _c.account_id == account_id, _c.type == DATA, _c.removed.is_(None))


def count(connection: sa.Connection) -> int:
    """Return the number of the last volume that was created, for a generated name."""
    return int(connection.scalar(sa.select(sa.func.max(_c.id))) or 0)


def half_deleted(connection: sa.Connection) -> list[Volume]:
    """Return the volumes whose file is still to be deleted: data volumes, and root disks of before."""
    where = (_c.state == VolumeState.DESTROYED, _c.vm_id.is_(None), _c.removed.is_(None))
    return rows.all(connection, *where)


def never_made(connection: sa.Connection, host_id: int) -> list[Volume]:
    """Return the data volumes of a host that have no file yet."""
    where = (_c.state == VolumeState.ALLOCATED, _c.type == DATA, _c.host_id == host_id, _c.removed.is_(None))
    return rows.all(connection, *where)


def release_data_of(connection: sa.Connection, vm_id: int) -> None:
    """Detach the data volumes of a VM that is expunged."""
    rows.update_where(
        connection, _c.vm_id == vm_id, _c.type == DATA, vm_id=None, device_id=None, attached=None
    )


def remove(connection: sa.Connection, volume_id: int) -> None:
    """Mark a volume as removed, and the policies that take snapshots of it."""
    snapshot_policies.remove_of_volume(connection, volume_id)
    rows.update(connection, volume_id, state=VolumeState.DESTROYED, removed=now())


def of_pool(connection: sa.Connection, pool_id: int) -> list[Volume]:
    """Return the volumes in a pool that was created by the API."""
    return rows.all(connection, _c.pool_id == pool_id, _c.removed.is_(None))


def of_zone(connection: sa.Connection, zone_id: int) -> list[Volume]:
    return rows.all(connection, _c.zone_id == zone_id, _c.removed.is_(None))


def allocated_bytes_by_pool(connection: sa.Connection) -> dict[int, int]:
    """Return the sum of the virtual sizes of each pool's volumes in bytes, by the pool's number."""
    query = (
        sa.select(_c.pool_id, _ALLOCATED)
        .where(_c.removed.is_(None), _c.pool_id.is_not(None))
        .group_by(_c.pool_id)
    )
    return {pool_id: int(total) for pool_id, total in connection.execute(query)}


def allocated_bytes_by_host(connection: sa.Connection) -> dict[int, int]:
    """Return the sum of the virtual sizes in bytes of the volumes in each host's own directory."""
    query = (
        sa.select(_c.host_id, _ALLOCATED)
        .where(_c.removed.is_(None), _c.host_id.is_not(None), _c.pool_id.is_(None))
        .group_by(_c.host_id)
    )
    return {host_id: int(total) for host_id, total in connection.execute(query)}
