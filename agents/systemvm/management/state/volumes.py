# SPDX-License-Identifier: Apache-2.0
"""Root disks on primary storage."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import VolumeState


@frozen
class Volume:
    id: int
    uuid: str
    account_id: int
    zone_id: int | None
    name: str
    type: str
    state: VolumeState
    vm_id: int | None
    template_id: int | None
    host_id: int | None
    path: str | None
    size_bytes: int | None
    created: datetime
    removed: datetime | None


rows = Rows(schema.volumes, Volume, "volume")
_c = schema.volumes.c

by_id = rows.by_id
by_uuid = rows.by_uuid


def create(connection: sa.Connection, /, *, name: str, account_id: int, vm_id: int, **columns: Any) -> Volume:
    return rows.insert(connection, name=name, account_id=account_id, vm_id=vm_id, **columns)


def update(connection: sa.Connection, /, volume_id: int, **changes: Any) -> Volume:
    return rows.update(connection, volume_id, **changes)


def root_of(connection: sa.Connection, vm_id: int) -> Volume | None:
    return rows.one(connection, _c.vm_id == vm_id, _c.type == "ROOT", _c.removed.is_(None))


def remove(connection: sa.Connection, volume_id: int) -> None:
    rows.update(connection, volume_id, state=VolumeState.DESTROYED, removed=now())
