# SPDX-License-Identifier: Apache-2.0
"""Which templates are made from snapshots of volumes, and the files that such a template is made of."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema, snapshots, zones
from systemvm.management.state import templates as template_rows
from systemvm.management.state.columns import now
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import SnapshotState
from systemvm.management.state.templates import Template
from systemvm.management.state.zones import ImageStore
from systemvm.wire.snapshot_chain import StoredChain
from systemvm.wire.storage import DownloadState

_c = schema.snapshot_images.c
_t, _r = schema.templates.c, schema.template_store_refs.c
_l = schema.extract_links.c
#: The file of a hidden one stays as long as others are increments on it.
_READABLE = (SnapshotState.BACKED_UP, SnapshotState.HIDDEN)
_UNFINISHED = (DownloadState.NOT_DOWNLOADED, DownloadState.DOWNLOAD_IN_PROGRESS)


@frozen
class SnapshotSource:
    """A snapshot as an SSVM reads it."""

    snapshot: Snapshot
    store: ImageStore
    chain: StoredChain
    stored_bytes: int  # of all its files: the image is not larger


def add(connection: sa.Connection, template_id: int, snapshot_id: int) -> None:
    connection.execute(
        schema.snapshot_images.insert().values(template_id=template_id, snapshot_id=snapshot_id)
    )


def source_of(connection: sa.Connection, template_id: int) -> SnapshotSource | None:
    """Return what a template is made from; None for one of another origin, and without its snapshot."""
    snapshot_id = connection.scalar(sa.select(_c.snapshot_id).where(_c.template_id == template_id))
    if snapshot_id is None:
        return None
    snapshot = snapshots.by_id(connection, snapshot_id)
    if snapshot.removed is not None or snapshot.state not in _READABLE:
        return None
    chain = snapshots.chain_of(connection, snapshot)
    return SnapshotSource(
        snapshot,
        zones.store_rows.by_id(connection, snapshot.store_id),
        StoredChain(snapshot.account_id, snapshot.volume_id, [each.uuid for each in chain]),
        sum(each.physical_size_bytes or 0 for each in chain),
    )


def made_from(connection: sa.Connection, snapshot_id: int, hidden_type: str | None = None) -> Template | None:
    """Return the newest template that was made from a snapshot and is not deleted, or image of a type."""
    kind = _t.type == hidden_type if hidden_type else _t.type.not_in(template_rows.HIDDEN_TYPES)
    ids = sa.select(_c.template_id).where(_c.snapshot_id == snapshot_id)
    found = template_rows.rows.all(
        connection, _t.id.in_(ids), _t.removed.is_(None), kind, order_by=(_t.id.desc(),), limit=1
    )
    return found[0] if found else None


def is_being_read(connection: sa.Connection, snapshot_id: int) -> bool:
    """Return whether a template is made from a snapshot at this moment."""
    query = (
        sa.select(_c.template_id)
        .join(schema.template_store_refs, _r.template_id == _c.template_id)
        .where(
            _c.snapshot_id == snapshot_id,
            _r.state.in_(_UNFINISHED),
            _r.removed.is_(None),
            _r.delete_requested.is_(None),
        )
    )
    return connection.execute(query.limit(1)).first() is not None


def unused_exports(connection: sa.Connection, unused_since: datetime) -> list[int]:
    """Return the exports to which no link works any more, and that were made before a time."""
    linked = sa.exists().where(_l.template_id == _t.id, _l.expires > now())
    is_new = sa.exists().where(_r.template_id == _t.id, _r.updated > unused_since)
    where = (_t.type == template_rows.EXPORT, _t.removed.is_(None), ~linked, ~is_new)
    return list(connection.scalars(sa.select(_t.id).where(*where)))


def copied(connection: sa.Connection) -> list[int]:
    """Return the images of snapshots that no copy in another zone waits for any more."""
    s = schema.snapshots.c
    waits = sa.exists().where(
        _c.template_id == _t.id,
        s.copy_of == _c.snapshot_id,
        s.state == SnapshotState.COPYING,
        s.removed.is_(None),
    )
    where = (_t.type == template_rows.COPY, _t.removed.is_(None), ~waits)
    return list(connection.scalars(sa.select(_t.id).where(*where)))


def used_snapshots(connection: sa.Connection, before: datetime) -> list[int]:
    """Return the snapshots that were taken before a time, for images that are complete since."""
    c = schema.snapshots.c
    where = (
        c.interval_type.in_([snapshots.FOR_TEMPLATE, snapshots.FOR_LINK]),
        c.state.in_([SnapshotState.BACKED_UP, SnapshotState.ERROR]),
        c.removed.is_(None),
        c.updated < before,
    )
    found = connection.scalars(sa.select(c.id).where(*where))
    return [number for number in found if not is_being_read(connection, number)]
