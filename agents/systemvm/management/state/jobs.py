# SPDX-License-Identifier: Apache-2.0
"""Rows of asynchronous jobs, with CloudStack's status codes."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.listing import KEPT_LISTINGS, Listing, contains, that_fit
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import JobStatus
from systemvm.management.state.topics import columns


@frozen
class Job:
    id: int
    uuid: str
    account_id: int
    domain_id: int
    zone_id: int | None
    user_id: int | None
    command: str
    arguments: dict[str, Any]
    status: JobStatus = field(converter=JobStatus)
    progress: int
    progress_text: str | None
    result_code: int
    result: dict[str, Any] | None
    instance_type: str | None
    instance_uuid: str | None
    request_id: str
    host_id: int | None
    created: datetime
    completed: datetime | None
    sealed_password: bytes | None = field(repr=False)


rows = Rows(schema.async_jobs, Job, "job")
_c = schema.async_jobs.c
_ROWS = sa.select(*rows.columns)

by_id = rows.by_id
by_uuid = rows.by_uuid


def create(connection: sa.Connection, /, *, command: str, arguments: dict[str, Any], **more: Any) -> Job:
    return rows.insert(connection, command=command, arguments=arguments, **more)


def pending(connection: sa.Connection) -> list[Job]:
    return rows.all(connection, _c.status == JobStatus.PENDING, _c.removed.is_(None))


@frozen
class JobFilter:
    """Conditions for a list of jobs; None means any."""

    account_ids: frozenset[int] | None
    since: datetime | None = None
    keyword: str | None = None  # in the command, whatever its case


def page(connection: sa.Connection, which: JobFilter, window: slice) -> tuple[list[Job], int]:
    """Return the jobs in a window of those that fit, the oldest first, and how many fit."""
    listing = _listing(which)
    return [rows.value(row) for row in listing.page(connection, window)], listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: JobFilter) -> Listing:
    where = [_c.removed.is_(None), *that_fit(sets=((_c.account_id, which.account_ids),))]
    if which.since is not None:
        where.append(_c.created >= which.since)
    if which.keyword is not None:
        where.append(contains(_c.command, which.keyword))
    return Listing(
        key=("jobs", which),
        rows=_ROWS,
        where=where,
        order_by=(_c.id,),
        topics=columns(schema.async_jobs, "removed", "account_id", "created", "command"),
    )


def list_all(connection: sa.Connection) -> list[Job]:
    """Return the jobs that are on record, oldest first."""
    return rows.all(connection, _c.removed.is_(None))


def set_progress(connection: sa.Connection, uuid: str, percent: int, text: str | None) -> None:
    rows.update_where(
        connection,
        _c.uuid == uuid,
        _c.status == JobStatus.PENDING,
        progress=percent,
        progress_text=text,
    )


def finish(
    connection: sa.Connection, uuid: str, status: JobStatus, result_code: int, result: dict[str, Any] | None
) -> Job:
    """Write a job's result. A job that has ended is not changed."""
    changes: dict[str, Any] = {"status": int(status), "result_code": result_code, "result": result}
    if status is JobStatus.SUCCEEDED:
        changes["progress"] = 100
    else:
        changes["sealed_password"] = None  # what failed has not set it
    rows.update_where(connection, _c.uuid == uuid, _c.status == JobStatus.PENDING, completed=now(), **changes)
    return rows.by_uuid(connection, uuid)


def take_password(connection: sa.Connection, job_id: int) -> bytes | None:
    """Return the sealed password that a job has answered, and forget it; None when it was taken before."""
    sealed = rows.by_id(connection, job_id).sealed_password
    if sealed is not None:
        rows.update(connection, job_id, sealed_password=None)
    return sealed


def delete_older(connection: sa.Connection, completed_before: datetime) -> int:
    """Delete jobs that ended before this time; return how many."""
    old = sa.and_(_c.status != JobStatus.PENDING, _c.completed < completed_before)
    return connection.execute(schema.async_jobs.delete().where(old)).rowcount
