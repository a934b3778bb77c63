# SPDX-License-Identifier: Apache-2.0
"""Policies that take snapshots of volumes by a schedule, and when the next one is due."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows


@frozen
class SnapshotPolicy:
    id: int
    uuid: str
    account_id: int
    domain_id: int
    zone_id: int
    volume_id: int
    interval_type: str
    schedule: str
    timezone: str
    max_snapshots: int
    next_run: datetime | None
    removed: datetime | None


rows = Rows(schema.snapshot_policies, SnapshotPolicy, "snapshot policy")
_c = schema.snapshot_policies.c

by_id = rows.by_id
by_uuid = rows.by_uuid
insert = rows.insert
update = rows.update


def of_volume(connection: sa.Connection, volume_id: int, interval_type: str) -> SnapshotPolicy | None:
    return rows.one(
        connection, _c.volume_id == volume_id, _c.interval_type == interval_type, _c.removed.is_(None)
    )


def due(connection: sa.Connection, host_id: int, limit: int) -> list[int]:
    """Return the numbers of policies that are due, whose volumes are on a host; the longest due first."""
    volumes = schema.volumes.c
    query = (
        sa.select(_c.id)
        .join(schema.volumes, volumes.id == _c.volume_id)
        .where(_c.next_run <= now(), volumes.host_id == host_id)
        .order_by(_c.next_run, _c.id)
        .limit(limit)
    )
    return list(connection.scalars(query))


def move(connection: sa.Connection, volume_id: int, to_volume_id: int) -> None:
    """Give the policies of a volume to the one that takes its place."""
    rows.update_where(connection, _c.volume_id == volume_id, _c.removed.is_(None), volume_id=to_volume_id)


def remove(connection: sa.Connection, policy_id: int) -> None:
    rows.update(connection, policy_id, removed=now(), next_run=None)


def remove_of_volume(connection: sa.Connection, volume_id: int) -> None:
    rows.update_where(
        connection, _c.volume_id == volume_id, _c.removed.is_(None), removed=now(), next_run=None
    )
