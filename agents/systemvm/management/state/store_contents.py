# SPDX-License-Identifier: Apache-2.0
"""What is on an image store, and where else it is."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from systemvm.management.state import schema, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.templates import StoreRef, Template
from systemvm.wire.storage import DownloadState

_r, _t, _s = schema.template_store_refs.c, schema.templates.c, schema.image_stores.c
_WANTED = (_r.removed.is_(None), _r.delete_requested.is_(None))
_UNFINISHED = (DownloadState.NOT_DOWNLOADED, DownloadState.DOWNLOAD_IN_PROGRESS)

#: A copy and its template.
Content = tuple[StoreRef, Template]


def contents(connection: sa.Connection, store_id: int) -> list[Content]:
    """Return the wanted copies on a store, finished or not."""
    return _select(connection, _r.store_id == store_id, *_WANTED)


def unfinished(connection: sa.Connection, store_id: int) -> list[Content]:
    """Return the copies that are still to be written to a store."""
    return _select(connection, _r.store_id == store_id, _r.state.in_(_UNFINISHED), *_WANTED)


def only_copies(connection: sa.Connection, store_id: int) -> list[Content]:
    """Return the Ready copies on a store whose template is Ready on no other store of the same zone.

    A copy on a staging store is none: nobody misses what is deleted there.
    """
    other, place = schema.template_store_refs.alias(), schema.image_stores.alias()
    zone_id = sa.select(_s.zone_id).where(_s.id == store_id).scalar_subquery()
    elsewhere = sa.exists().where(
        other.c.template_id == _r.template_id,
        other.c.store_id != store_id,
        other.c.store_id == place.c.id,
        place.c.zone_id == zone_id,
        place.c.removed.is_(None),
        place.c.role == zones.IMAGE,
        other.c.state == DownloadState.DOWNLOADED,
        other.c.removed.is_(None),
        other.c.delete_requested.is_(None),
    )
    ready = _r.state == DownloadState.DOWNLOADED
    return _select(connection, _r.store_id == store_id, ready, *_WANTED, ~elsewhere)


def staged(connection: sa.Connection, store_ids: Collection[int]) -> list[Content]:
    """Return Ready copies on staging stores whose templates are Ready on an image store too.

    The one that was not used for the longest time comes first.
    """
    other, place = schema.template_store_refs.alias(), schema.image_stores.alias()
    is_kept = sa.exists().where(
        other.c.template_id == _r.template_id,
        other.c.store_id == place.c.id,
        place.c.role == zones.IMAGE,
        place.c.removed.is_(None),
        other.c.state == DownloadState.DOWNLOADED,
        other.c.removed.is_(None),
        other.c.delete_requested.is_(None),
    )
    ready = _r.state == DownloadState.DOWNLOADED
    found = _select(connection, _r.store_id.in_(store_ids), ready, *_WANTED, is_kept)
    return sorted(found, key=lambda content: content[0].updated)


def has_deletions(connection: sa.Connection, store_ids: Collection[int]) -> bool:
    """Return whether files are still to be deleted on one of these stores."""
    waiting = (_r.removed.is_(None), _r.delete_requested.is_not(None))
    return templates.store_refs.one(connection, _r.store_id.in_(store_ids), *waiting) is not None


def forget_copies(connection: sa.Connection, store_id: int) -> None:
    """Mark every copy on a store as removed; the files stay where they are."""
    templates.store_refs.update_where(
        connection, _r.store_id == store_id, _r.removed.is_(None), removed=now()
    )


def _select(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Content]:
    query = (
        sa.select(*templates.store_refs.labelled("ref"), *templates.rows.labelled("template"))
        .select_from(schema.template_store_refs.join(schema.templates, _t.id == _r.template_id))
        .where(*where)
        .order_by(_r.id)
    )
    return [
        (templates.store_refs.from_labelled(row, "ref"), templates.rows.from_labelled(row, "template"))
        for row in connection.execute(query).mappings()
    ]
