# SPDX-License-Identifier: Apache-2.0
"""Sources from which users logged in successfully; guesses from other sources do not block them."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from systemvm.management.state import schema
from systemvm.management.state.columns import now

MAX_SOURCES_OF_USER = 32
REMEMBERED_FOR = timedelta(days=90)

_c = schema.login_sources.c


def is_known(connection: sa.Connection, user_id: int, source: str) -> bool:
    query = sa.select(_c.id).where(
        _c.user_id == user_id, _c.source == source, _c.last_login > now() - REMEMBERED_FOR
    )
    return connection.execute(query.limit(1)).first() is not None


def remember(connection: sa.Connection, user_id: int, source: str) -> None:
    """Record a login, and delete the user's oldest sources beyond `MAX_SOURCES_OF_USER`."""
    moment = now()
    own = _c.user_id == user_id
    known = connection.execute(
        schema.login_sources.update().where(own, _c.source == source).values(last_login=moment)
    )
    if not known.rowcount:
        connection.execute(
            schema.login_sources.insert().values(user_id=user_id, source=source, last_login=moment)
        )
    newest_first = sa.select(_c.id).where(own).order_by(_c.last_login.desc(), _c.id.desc())
    surplus = newest_first.offset(MAX_SOURCES_OF_USER)
    connection.execute(
        schema.login_sources.delete().where(
            own, sa.or_(_c.id.in_(surplus), _c.last_login <= moment - REMEMBERED_FOR)
        )
    )


def forget(connection: sa.Connection, user_id: int) -> None:
    """Delete a user's sources. Call it when the password changes: they were trusted for the old one."""
    connection.execute(schema.login_sources.delete().where(_c.user_id == user_id))
