# SPDX-License-Identifier: Apache-2.0
"""Rows of asynchronous jobs, with CloudStack's status codes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import JobStatus


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


rows = Rows(schema.async_jobs, Job, "job")
_c = schema.async_jobs.c

by_id = rows.by_id
by_uuid = rows.by_uuid


def create(connection: sa.Connection, /, *, command: str, arguments: dict[str, Any], **columns: Any) -> Job:
    return rows.insert(connection, command=command, arguments=arguments, **columns)


def pending(connection: sa.Connection) -> list[Job]:
    return rows.all(connection, _c.status == JobStatus.PENDING, _c.removed.is_(None))


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
    rows.update_where(connection, _c.uuid == uuid, _c.status == JobStatus.PENDING, completed=now(), **changes)
    return rows.by_uuid(connection, uuid)


def delete_older(connection: sa.Connection, completed_before: datetime) -> int:
    """Delete jobs that ended before this time; return how many."""
    old = sa.and_(_c.status != JobStatus.PENDING, _c.completed < completed_before)
    return connection.execute(schema.async_jobs.delete().where(old)).rowcount
