# SPDX-License-Identifier: Apache-2.0
"""Login sessions of the page and of API clients; only hashes of their secrets are stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.management.state.topics import columns


@frozen
class LoginSession:
    id: int
    uuid: str
    user_id: int
    session_key_hash: str = field(repr=False)
    client_address: str | None
    created: datetime
    last_used: datetime
    expires: datetime
    is_verified: bool  # False: the second factor is missing


rows = Rows(schema.sessions, LoginSession, "session")
_c = schema.sessions.c
#: What the result of `not_ended` depends on.
TOPICS = columns(
    schema.sessions, "removed", "last_used", "expires", "session_key_hash", "created", "is_verified"
)


def create(
    connection: sa.Connection,
    *,
    user_id: int,
    cookie_hash: str,
    session_key_hash: str,
    client_address: str | None,
    expires: datetime,
    is_verified: bool = True,
) -> LoginSession:
    return rows.insert(
        connection,
        user_id=user_id,
        cookie_hash=cookie_hash,
        session_key_hash=session_key_hash,
        client_address=client_address,
        expires=expires,
        is_verified=is_verified,
    )


def by_cookie_hash(connection: sa.Connection, cookie_hash: str) -> LoginSession | None:
    """Return the session of a cookie if it has neither ended nor expired."""
    return rows.one(connection, _c.cookie_hash == cookie_hash, _c.removed.is_(None), _c.expires > now())


def not_ended(connection: sa.Connection, cookie_hash: str) -> LoginSession | None:
    """Return the session of a cookie if it has not ended; it can have expired, which no row tells."""
    return rows.one(connection, _c.cookie_hash == cookie_hash, _c.removed.is_(None))


def extend(connection: sa.Connection, session_id: int, expires: datetime, *, unused_since: datetime) -> None:
    """Extend a session that was not extended after a time: calls that run side by side write once."""
    rows.update_where(
        connection, _c.id == session_id, _c.last_used < unused_since, last_used=now(), expires=expires
    )


def verify(connection: sa.Connection, uuid: str) -> None:
    """Record that the second factor of a session was verified."""
    rows.update_where(connection, _c.uuid == uuid, _c.removed.is_(None), is_verified=True)


def end(connection: sa.Connection, session_id: int) -> None:
    rows.update_where(connection, _c.id == session_id, _c.removed.is_(None), removed=now())


def end_unverified(connection: sa.Connection, user_id: int) -> None:
    """End the logins of a user that wait for a second factor."""
    where = (_c.user_id == user_id, _c.removed.is_(None), sa.not_(_c.is_verified))
    rows.update_where(connection, *where, removed=now())


def end_of_users(
    connection: sa.Connection, user_ids: Sequence[int], *, except_uuid: str | None = None
) -> list[str]:
    """End the logins of users, except one; return the UUIDs of those that ended."""
    where = [_c.user_id.in_(user_ids), _c.removed.is_(None), _c.uuid.is_distinct_from(except_uuid)]
    ended = list(connection.scalars(sa.select(_c.uuid).where(*where)))
    rows.update_where(connection, *where, removed=now())
    return ended


def delete_expired(connection: sa.Connection) -> int:
    """Delete sessions that have ended or expired; return how many."""
    ended = sa.or_(_c.removed.is_not(None), _c.expires <= now())
    return connection.execute(schema.sessions.delete().where(ended)).rowcount
