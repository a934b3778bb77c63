# SPDX-License-Identifier: Apache-2.0
"""Which templates of a zone have fewer copies than its policy wants, in set-based queries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from systemvm.management.state import schema, templates, zones
from systemvm.management.state.columns import new_uuid
from systemvm.management.state.templates import StoreRef
from systemvm.wire.storage import DownloadState

_r, _t, _s = schema.template_store_refs.c, schema.templates.c, schema.image_stores.c
_WANTED = (_r.removed.is_(None), _r.delete_requested.is_(None), _t.removed.is_(None))
_JOINED = schema.template_store_refs.join(schema.image_stores, _s.id == _r.store_id).join(
    schema.templates, _t.id == _r.template_id
)


def lacking(connection: sa.Connection, zone_id: int, wanted: int, limit: int) -> Sequence[int]:
    """Return the numbers of templates that are Ready in a zone, on fewer than `wanted` stores that stay."""
    is_kept = sa.and_(_s.retiring.is_(None), _s.role == zones.IMAGE)
    stays = sa.func.sum(sa.case((is_kept, 1), else_=0))
    ready = sa.func.sum(sa.case((_r.state == DownloadState.DOWNLOADED, 1), else_=0))
    query = (
        sa.select(_r.template_id)
        .select_from(_JOINED)
        .where(_s.zone_id == zone_id, _s.removed.is_(None), _t.type.not_in(templates.HIDDEN_TYPES), *_WANTED)
        .group_by(_r.template_id)
        .having(sa.and_(stays < wanted, ready > 0))
        .order_by(_r.template_id)
        .limit(limit)
    )
    return connection.execute(query).scalars().all()


def copies_in_zone(connection: sa.Connection, template_id: int, zone_id: int) -> list[StoreRef]:
    """Return the wanted copies of a template on the stores of a zone."""
    of_zone = sa.select(_s.id).where(_s.zone_id == zone_id, _s.removed.is_(None))
    return templates.store_refs.all(
        connection,
        _r.template_id == template_id,
        _r.store_id.in_(of_zone),
        _r.removed.is_(None),
        _r.delete_requested.is_(None),
    )


def misplaced(connection: sa.Connection, zone_id: int) -> list[StoreRef]:
    """Return downloads that no SSVM has begun, for stores that take no content any more."""
    closed = sa.select(_s.id).where(
        _s.zone_id == zone_id, sa.or_(_s.read_only.is_(True), _s.retiring.is_not(None))
    )
    return templates.store_refs.all(
        connection,
        _r.store_id.in_(closed),
        _r.state == DownloadState.NOT_DOWNLOADED,
        _r.agent_name.is_(None),
        _r.removed.is_(None),
        _r.delete_requested.is_(None),
    )


def failed_copies(connection: sa.Connection, zone_id: int, before: datetime) -> list[StoreRef]:
    """Return copies of Ready templates that failed before a time: their turn has come again."""
    other = schema.template_store_refs.alias()
    is_ready = sa.exists().where(
        other.c.template_id == _r.template_id,
        other.c.state == DownloadState.DOWNLOADED,
        other.c.removed.is_(None),
        other.c.delete_requested.is_(None),
    )
    of_zone = sa.select(_s.id).where(_s.zone_id == zone_id, _s.removed.is_(None), _s.role == zones.IMAGE)
    return templates.store_refs.all(
        connection,
        _r.store_id.in_(of_zone),
        _r.state == DownloadState.DOWNLOAD_ERROR,
        _r.updated < before,
        _r.removed.is_(None),
        _r.delete_requested.is_(None),
        is_ready,
    )


def move(connection: sa.Connection, ref_id: int, store_id: int) -> bool:
    """Give a download that has not begun another store; return whether it did."""
    changed = templates.store_refs.update_where(
        connection,
        _r.id == ref_id,
        _r.state == DownloadState.NOT_DOWNLOADED,
        _r.agent_name.is_(None),
        store_id=store_id,
        job_id=new_uuid(),
    )
    return bool(changed)
