# SPDX-License-Identifier: Apache-2.0
"""Downloads and deletions that are due, in set-based queries whose cost depends on what is due only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema, templates, zones
from systemvm.management.state.instances import names_of_ssvms_by_zone
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import ImageStore, Zone
from systemvm.wire.storage import DownloadState
from systemvm.wire.vm_name import VmName

#: How many deletions one pass reads; the others follow when these are done.
MAX_DELETIONS = 256
#: How many waiting downloads one pass reads; the oldest of each account and store are among them.
MAX_CANDIDATES = 256

_r, _t, _s, _z = (
    schema.template_store_refs.c,
    schema.templates.c,
    schema.image_stores.c,
    schema.zones.c,
)
_JOINED = (
    schema.template_store_refs.join(schema.templates, _t.id == _r.template_id)
    .join(schema.image_stores, _s.id == _r.store_id)
    .join(schema.zones, _z.id == _s.zone_id)
)
_WANTED = (
    _r.removed.is_(None),
    _r.delete_requested.is_(None),
    _r.state.in_([DownloadState.NOT_DOWNLOADED, DownloadState.DOWNLOAD_IN_PROGRESS]),
)
#: Files on a read-only store stay until it is writable again.
_TO_DELETE = (_r.removed.is_(None), _r.delete_requested.is_not(None), _s.read_only.is_(False))


@frozen
class DownloadTask:
    """A download or a deletion that is due, with all that its SSVM has to know."""

    ref: StoreRef
    template: Template
    store: ImageStore
    zone: Zone


@frozen
class PendingTasks:
    """What a pass begins with."""

    ssvms: dict[int, list[str]]  # names by zone
    given: list[DownloadTask]  # downloads that an SSVM has
    waiting: dict[int, int]  # how many have none yet, by zone
    deletions: list[DownloadTask]
    zone_names: dict[int, str] = field(factory=dict)


def get_pending(connection: sa.Connection, not_deletions: Collection[int] = ()) -> PendingTasks:
    """Return all of it, by four queries, without the deletions of the copies numbered in `not_deletions`."""
    waiting = connection.execute(
        sa.select(_s.zone_id, _z.name, sa.func.count())
        .select_from(
            schema.template_store_refs.join(schema.image_stores, _s.id == _r.store_id).join(
                schema.zones, _z.id == _s.zone_id
            )
        )
        .where(*_WANTED, _r.agent_name.is_(None))
        .group_by(_s.zone_id, _z.name)
    ).all()
    return PendingTasks(
        ssvms=names_of_ssvms_by_zone(connection),
        given=_tasks(connection, *_WANTED, _r.agent_name.is_not(None)),
        waiting={zone_id: count for zone_id, _, count in waiting},
        # in the order of their index: by number SQLite would read the whole table
        deletions=_tasks(
            connection,
            *_TO_DELETE,
            _r.id.not_in(list(not_deletions)),
            order_by=(_r.delete_requested, _r.id),
            limit=MAX_DELETIONS,
        ),
        zone_names={zone_id: name for zone_id, name, _ in waiting},
    )


def candidates(
    connection: sa.Connection, zone_ids: Collection[int], not_refs: Collection[int], per_account: int
) -> list[DownloadTask]:
    """Return downloads of these zones that no SSVM has: the first `per_account` of each account and store.

    There is one queue for each account and store. The first of every queue come before the second of any,
    so that neither an account with many downloads nor a store that hangs hides the others.
    """
    place = (
        sa.func.row_number().over(partition_by=[_t.account_id, _r.store_id], order_by=_r.id).label("place")
    )
    queues = (
        sa.select(_r.id.label("ref_id"), place)
        .select_from(_JOINED)
        .where(
            *_WANTED,
            _r.agent_name.is_(None),
            _s.zone_id.in_(list(zone_ids)),
            _r.id.not_in(list(not_refs)),
        )
        .subquery()
    )
    query = (
        sa.select(*_task_columns())
        .select_from(_JOINED.join(queues, queues.c.ref_id == _r.id))
        .where(queues.c.place <= per_account)
        .order_by(queues.c.place, _r.id)
        .limit(MAX_CANDIDATES)
    )
    return [_task(row) for row in connection.execute(query).mappings()]


def task_of(connection: sa.Connection, ref_id: int) -> DownloadTask | None:
    """Return a download or an upload that an SSVM has and that has not ended; None otherwise."""
    found = _tasks(connection, *_WANTED, _r.agent_name.is_not(None), _r.id == ref_id)
    return found[0] if found else None


def deletions_of(connection: sa.Connection, template_id: int) -> list[DownloadTask]:
    """Return the deletions of one template's copies."""
    return _tasks(connection, *_TO_DELETE, _r.template_id == template_id)


def deletion_with_ssvms(connection: sa.Connection, ref_id: int) -> tuple[DownloadTask, PendingTasks] | None:
    """Return one deletion as it is now, and the SSVMs that can do it; None when it is done."""
    found = _tasks(connection, *_TO_DELETE, _r.id == ref_id)
    return (found[0], PendingTasks(names_of_ssvms_by_zone(connection), [], {}, [])) if found else None


def waiting_without_reason(connection: sa.Connection, zone_id: int, reason: str, limit: int) -> Sequence[int]:
    """Return the numbers of a zone's waiting downloads whose row has another reason than this one."""
    query = (
        sa.select(_r.id)
        .select_from(_JOINED)
        .where(
            *_WANTED,
            _r.agent_name.is_(None),
            _s.zone_id == zone_id,
            _r.error_code.is_distinct_from(reason),
        )
        .order_by(_r.id)
        .limit(limit)
    )
    return connection.execute(query).scalars().all()


def ready_on(connection: sa.Connection, store_id: int) -> list[tuple[int, str, tuple[int, int]]]:
    """Return what a store should have: each copy's number and job, and the numbers of its directory."""
    query = (
        sa.select(*templates.store_refs.labelled("ref"), *templates.rows.labelled("template"))
        .select_from(schema.template_store_refs.join(schema.templates, _t.id == _r.template_id))
        .where(
            _r.store_id == store_id,
            _r.removed.is_(None),
            _r.delete_requested.is_(None),
            _r.state == DownloadState.DOWNLOADED,
        )
        .order_by(_r.id)
    )
    found = []
    for row in connection.execute(query).mappings():
        ref = templates.store_refs.from_labelled(row, "ref")
        place = templates.place_of(ref, templates.rows.from_labelled(row, "template"))
        found.append((ref.id, ref.job_id, place))
    return found


def expected_jobs(connection: sa.Connection, agent_name: str) -> set[str]:
    """Return the ids of jobs that are assigned to an SSVM, have not ended and are still wanted."""
    query = sa.select(_r.job_id).where(*_WANTED, sa.func.lower(_r.agent_name) == VmName(agent_name).key)
    return set(connection.execute(query).scalars())


def _tasks(
    connection: sa.Connection,
    *where: sa.ColumnElement[bool],
    order_by: Sequence[sa.ColumnElement[Any]] = (_r.id,),
    limit: int | None = None,
) -> list[DownloadTask]:
    query = sa.select(*_task_columns()).select_from(_JOINED).where(*where).order_by(*order_by).limit(limit)
    return [_task(row) for row in connection.execute(query).mappings()]


def _task_columns() -> list[sa.Label[Any]]:
    return [
        *templates.store_refs.labelled("ref"),
        *templates.rows.labelled("template"),
        *zones.store_rows.labelled("store"),
        *zones.zone_rows.labelled("zone"),
    ]


def _task(row: sa.RowMapping) -> DownloadTask:
    return DownloadTask(
        templates.store_refs.from_labelled(row, "ref"),
        templates.rows.from_labelled(row, "template"),
        zones.store_rows.from_labelled(row, "store"),
        zones.zone_rows.from_labelled(row, "zone"),
    )
