# SPDX-License-Identifier: Apache-2.0
"""CloudStack's events: what happened, to what, by whom."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.accounts import SYSTEM_ACCOUNT_ID
from systemvm.management.state.rows import Rows
from systemvm.service.redaction import redact_urls


@frozen
class Event:
    id: int
    uuid: str
    account_id: int
    domain_id: int
    user_id: int | None
    type: str
    level: str
    state: str
    description: str
    resource_type: str | None
    resource_uuid: str | None
    job_uuid: str | None
    request_id: str | None
    created: datetime


rows = Rows(schema.events, Event, "event")
_c = schema.events.c


def record(
    connection: sa.Connection,
    /,
    kind: str,
    description: str,
    *,
    account_id: int = SYSTEM_ACCOUNT_ID,
    level: str = "INFO",
    **columns: Any,
) -> Event:
    """Write an event; `columns` are the table's others: resource_type, resource_uuid, job_uuid, …"""
    return rows.insert(
        connection,
        type=kind,
        description=redact_urls(description),
        account_id=account_id,
        level=level,
        **columns,
    )


def newest(connection: sa.Connection, limit: int, *where: sa.ColumnElement[bool]) -> list[Event]:
    return rows.all(connection, *where, order_by=(_c.created.desc(), _c.id.desc()), limit=limit)
