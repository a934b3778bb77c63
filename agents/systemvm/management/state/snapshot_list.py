# SPDX-License-Identifier: Apache-2.0
"""Lists of snapshots that users see, with their volumes and what they are increments on."""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema, snapshots, tags, volumes
from systemvm.management.state.listing import (
    KEPT_LISTINGS,
    Listing,
    Order,
    as_text,
    by_name,
    contains,
    ordered,
    that_fit,
)
from systemvm.management.state.snapshots import TEMPORARY, Snapshot
from systemvm.management.state.status import SnapshotState
from systemvm.management.state.tags import Wanted
from systemvm.management.state.topics import columns
from systemvm.management.state.volumes import Volume

_c, _v = schema.snapshots.c, schema.volumes.c
_parents = schema.snapshots.alias("parents")
_origins = schema.snapshots.alias("origins")
_HIDDEN = [state for state in SnapshotState if state.is_hidden]
_TOPICS = (
    *columns(schema.snapshots, "removed", "account_id", "name", "volume_id", "zone_id", "state"),
    *columns(schema.snapshots, "interval_type"),
    *columns(schema.volumes),
)

#: By key of the rows.
SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {
    "name": by_name(_c.name),
    "state": as_text(_c.state),
    "created": _c.id,
}


@frozen
class SnapshotFilter:
    """Conditions for a list of snapshots; None means any."""

    account_ids: frozenset[int] | None
    uuids: frozenset[str] | None = None
    name: str | None = None  # whatever its case
    volume_uuid: str | None = None
    zone_id: int | None = None
    state: str | None = None  # whatever its case
    snapshot_type: str | None = None  # whatever its case
    interval_type: str | None = None  # the same column: CloudStack has two names for it
    keyword: str | None = None  # in the name, whatever its case
    tags: Wanted | None = None
    once: bool = False  # of a snapshot and its copies in other zones only the first that is there


@frozen
class SnapshotOfVolume:
    """A snapshot, its volume, and what it is an increment on."""

    snapshot: Snapshot
    volume: Volume
    parent_uuid: str | None
    origin_uuid: str | None  # of which it is a copy


def page(
    connection: sa.Connection, which: SnapshotFilter, window: slice, order: Order | None = None
) -> tuple[list[SnapshotOfVolume], int]:
    """Return the snapshots in a window of the list, the oldest first, and how many there are in all."""
    listing = _listing(which, order)
    return [_of_row(row) for row in listing.page(connection, window)], listing.count(connection)


def one(connection: sa.Connection, snapshot_id: int) -> SnapshotOfVolume:
    """Return a snapshot as a list shows it, even if it is removed."""
    return _of_row(connection.execute(_ROWS.where(_c.id == snapshot_id)).mappings().one())


def _of_row(row: sa.RowMapping) -> SnapshotOfVolume:
    return SnapshotOfVolume(
        snapshots.rows.from_labelled(row, "snapshot"),
        volumes.rows.from_labelled(row, "volume"),
        row["parent_uuid"],
        row["origin_uuid"],
    )


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: SnapshotFilter, order: Order | None) -> Listing:
    return Listing(
        key=("snapshots", which),
        rows=_ROWS,
        where=_conditions(which),
        order_by=ordered(SORT_KEYS, order, _c.id),
        topics=(*_TOPICS, *tags.TOPICS) if which.tags else _TOPICS,
    )


def _conditions(which: SnapshotFilter) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [
        _c.removed.is_(None),
        _c.state.not_in(_HIDDEN),
        _c.interval_type.not_in(TEMPORARY),
    ]
    where += that_fit(
        exact=((_c.zone_id, which.zone_id),),
        texts=(
            (_c.name, which.name),
            (as_text(_c.state), which.state),
            (_c.interval_type, which.snapshot_type),
            (_c.interval_type, which.interval_type),
        ),
        sets=((_c.account_id, which.account_ids), (_c.uuid, which.uuids)),
    )
    if which.volume_uuid is not None:
        volume = schema.volumes.alias().c
        its = sa.select(volume.id).where(volume.uuid == which.volume_uuid).scalar_subquery()
        where.append(_c.volume_id == its)
    if which.keyword is not None:
        where.append(contains(_c.name, which.keyword))
    if which.tags is not None:
        where.append(tags.has_any(_c.uuid, which.tags))
    if which.once:
        where.append(_is_first())
    return where


def _is_first() -> sa.ColumnElement[bool]:
    """Return the condition that neither what a snapshot is a copy of nor an earlier copy of it is there."""
    other = schema.snapshots.alias("others")
    of_same = sa.or_(other.c.id == _c.copy_of, sa.and_(other.c.copy_of == _c.copy_of, other.c.id < _c.id))
    return ~sa.exists().where(of_same, other.c.removed.is_(None), other.c.state.not_in(_HIDDEN))


_ROWS = sa.select(
    *snapshots.rows.labelled("snapshot"),
    *volumes.rows.labelled("volume"),
    _parents.c.uuid.label("parent_uuid"),
    _origins.c.uuid.label("origin_uuid"),
).select_from(
    schema.snapshots.join(schema.volumes, _v.id == _c.volume_id)
    .outerjoin(_parents, _parents.c.id == _c.parent_id)
    .outerjoin(_origins, _origins.c.id == _c.copy_of)
)
