# SPDX-License-Identifier: Apache-2.0
"""Column types and column groups that the tables share."""

from __future__ import annotations

import enum
import uuid
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

E = TypeVar("E", bound=enum.Enum)


def now() -> datetime:
    """Return the current time as the tables store it: timezone-aware, in UTC."""
    return datetime.now(UTC)


def new_uuid() -> str:
    return str(uuid.uuid4())


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Timezone-aware times in Python, UTC in the database, because SQLite does not store a time zone."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("time has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class EnumText(sa.types.TypeDecorator[E], Generic[E]):
    """An enum's value as text: readable in any SQL shell, and a new member needs no migration."""

    impl = sa.String(40)
    cache_ok = True

    def __init__(self, members: type[E]) -> None:
        super().__init__()
        self.members = members

    def process_bind_param(self, value: E | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else str(value.value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> E | None:
        return None if value is None else self.members(value)


def numbered() -> list[sa.Column[Any]]:
    """Return every table's columns: a number for joins and names (`s-1-VM`), a UUID, created, removed."""
    return [
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("uuid", sa.String(36), nullable=False, unique=True, default=new_uuid),
        sa.Column("created", UtcDateTime, nullable=False, default=now),
        sa.Column("removed", UtcDateTime),
    ]


def user_visible() -> list[sa.Column[Any]]:
    """Return the columns of every table that users see: `numbered` ones, owner, zone and architecture."""
    return [
        *numbered(),
        sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False, default=1),
        sa.Column("domain_id", sa.ForeignKey("domains.id"), nullable=False, default=1),
        sa.Column("zone_id", sa.ForeignKey("zones.id")),
        sa.Column("arch", sa.String(16)),
    ]
