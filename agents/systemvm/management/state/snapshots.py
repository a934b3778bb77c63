# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes, and the chains that increments make."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import SnapshotState


@frozen
class Snapshot:
    id: int
    uuid: str
    account_id: int
    domain_id: int
    zone_id: int
    name: str
    volume_id: int
    parent_id: int | None
    store_id: int
    copy_of: int | None  # the snapshot in another zone that it is a copy of
    host_id: int
    interval_type: str
    state: SnapshotState
    error_text: str | None
    error_hint: str | None
    size_bytes: int | None
    physical_size_bytes: int | None
    created: datetime
    removed: datetime | None


rows = Rows(schema.snapshots, Snapshot, "snapshot")
_c = schema.snapshots.c
#: Snapshots whose file is on their store; a hidden one is kept for those that are increments on it.
_STORED = _c.state.in_([SnapshotState.BACKED_UP, SnapshotState.HIDDEN])

#: Snapshots that were taken of their volume in its zone, not copied from there.
_TAKEN = _c.copy_of.is_(None)

by_id = rows.by_id
find = rows.find
insert = rows.insert
update = rows.update


#: Interval types of snapshots that are taken for a moment, to make a template or a link; users see none.
FOR_TEMPLATE, FOR_LINK = TEMPORARY = ("TEMPLATE", "LINK")


def unfinished_of(connection: sa.Connection, volume_id: int) -> list[Snapshot]:
    """Return the snapshots of a volume that are being taken."""
    found = rows.all(connection, _c.volume_id == volume_id, _c.removed.is_(None), _TAKEN)
    return [snapshot for snapshot in found if not snapshot.state.has_ended]


def by_uuid(connection: sa.Connection, uuid: str) -> Snapshot:
    """Return a snapshot that users see."""
    snapshot = rows.by_uuid(connection, uuid)
    if snapshot.state.is_hidden or snapshot.interval_type in TEMPORARY:
        return rows.by_uuid(connection, "")  # raises: to its user it is deleted
    return snapshot


def of_account(connection: sa.Connection, account_id: int) -> list[Snapshot]:
    return rows.all(connection, _c.account_id == account_id, _c.removed.is_(None))


def on_store(connection: sa.Connection, store_id: int) -> int:
    """Return how many snapshots are on a store."""
    query = sa.select(sa.func.count()).where(_c.store_id == store_id, _c.removed.is_(None), _STORED)
    return connection.scalar(query) or 0


def of_interval(connection: sa.Connection, volume_id: int, interval_type: str) -> list[Snapshot]:
    """Return the snapshots of a volume with a type that users see, the oldest first."""
    hidden = [state for state in SnapshotState if state.is_hidden]
    where = (_c.volume_id == volume_id, _c.interval_type == interval_type)
    return rows.all(connection, *where, _TAKEN, _c.removed.is_(None), _c.state.not_in(hidden))


def unfinished(connection: sa.Connection, host_id: int) -> list[Snapshot]:
    """Return the snapshots of a host's volumes that are being taken."""
    ended = [state for state in SnapshotState if state.has_ended]
    where = (_c.host_id == host_id, _TAKEN, _c.removed.is_(None))
    return rows.all(connection, *where, _c.state.not_in(ended))


def unfinished_copies(connection: sa.Connection, host_id: int) -> list[Snapshot]:
    """Return the copies in other zones of the snapshots of a host's volumes that are being made."""
    where = (_c.host_id == host_id, _c.state == SnapshotState.COPYING, _c.removed.is_(None))
    return rows.all(connection, *where)


def last_of(connection: sa.Connection, volume_id: int) -> Snapshot | None:
    """Return the volume's newest snapshot whose file is on its store."""
    where = (_c.volume_id == volume_id, _c.removed.is_(None), _STORED, _TAKEN)
    found = rows.all(connection, *where, order_by=(_c.id.desc(),), limit=1)
    return found[0] if found else None


def copies_of(connection: sa.Connection, snapshot_id: int, zone_id: int | None = None) -> list[Snapshot]:
    """Return the copies of a snapshot that users see, in a zone or in all."""
    hidden = [state for state in SnapshotState if state.is_hidden]
    where = [_c.copy_of == snapshot_id, _c.removed.is_(None), _c.state.not_in(hidden)]
    if zone_id is not None:
        where.append(_c.zone_id == zone_id)
    return rows.all(connection, *where, order_by=(_c.id,))


def chain_of(connection: sa.Connection, snapshot: Snapshot) -> list[Snapshot]:
    """Return a snapshot with all that it is an increment on, the whole one first."""
    chain = [snapshot]
    while (parent_id := chain[-1].parent_id) is not None:
        chain.append(rows.by_id(connection, parent_id))
    return chain[::-1]


def has_children(connection: sa.Connection, snapshot_id: int) -> bool:
    """Return whether another snapshot is an increment on this one."""
    return rows.one(connection, _c.parent_id == snapshot_id, _c.removed.is_(None)) is not None


def to_delete(connection: sa.Connection, volume_id: int | None = None) -> list[Snapshot]:
    """Return the snapshots whose file nothing needs any more.

    One that has failed with a size was complete on primary storage; what its store has of it is not known.
    """
    child = schema.snapshots.alias().c
    is_needed = sa.exists().where(child.parent_id == _c.id, child.removed.is_(None))
    ready = sa.or_(
        _c.state == SnapshotState.DESTROYING,
        sa.and_(_c.state == SnapshotState.HIDDEN, ~is_needed),
        sa.and_(_c.state == SnapshotState.ERROR, _TAKEN, _c.physical_size_bytes.is_not(None)),
    )
    where = [ready, _c.removed.is_(None)]
    if volume_id is not None:
        where.append(_c.volume_id == volume_id)
    return rows.all(connection, *where, order_by=(_c.id.desc(),))


def forget_removed_stores(connection: sa.Connection, volume_id: int | None = None) -> None:
    """Record of each file on a store that was removed from the cloud that it is not to be deleted there."""
    store = schema.image_stores.c
    gone = _c.store_id.in_(sa.select(store.id).where(store.removed.is_not(None)))
    where: list[sa.ColumnElement[bool]] = [gone, _c.removed.is_(None)]
    if volume_id is not None:
        where.append(_c.volume_id == volume_id)
    rows.update_where(connection, *where, _c.state == SnapshotState.DESTROYING, removed=now())
    with_size = _c.physical_size_bytes.is_not(None)
    rows.update_where(
        connection, *where, with_size, _c.state == SnapshotState.ERROR, physical_size_bytes=None
    )


def set_file_deleted(connection: sa.Connection, snapshot: Snapshot) -> None:
    """Record that the file of a snapshot is deleted; one that has failed stays until its user deletes it."""
    if snapshot.state is SnapshotState.ERROR:
        update(connection, snapshot.id, physical_size_bytes=None)
    else:
        remove(connection, snapshot.id, state=SnapshotState.DESTROYING)


def remove(connection: sa.Connection, /, snapshot_id: int, **changes: Any) -> None:
    rows.update(connection, snapshot_id, removed=now(), **changes)
