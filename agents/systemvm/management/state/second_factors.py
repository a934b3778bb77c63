# SPDX-License-Identifier: Apache-2.0
"""What users log in with besides their password: a secret that an authenticator app shares."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.rows import Rows


@frozen
class SecondFactor:
    id: int
    user_id: int
    sealed_secret: bytes = field(repr=False)
    is_confirmed: bool  # by a first code; before, logins do not ask for one
    last_step: int | None  # of the last code that was used


rows = Rows(schema.second_factors, SecondFactor, "second factor")
_c = schema.second_factors.c


def of_user(connection: sa.Connection, user_id: int) -> SecondFactor | None:
    return rows.one(connection, _c.user_id == user_id)


def confirmed_among(connection: sa.Connection, user_ids: Iterable[int]) -> set[int]:
    """Return which of these users have a second factor that logins ask for."""
    query = sa.select(_c.user_id).where(_c.user_id.in_(list(user_ids)), _c.is_confirmed)
    return set(connection.scalars(query))


def replace(connection: sa.Connection, user_id: int, sealed_secret: bytes) -> None:
    """Give a user a new secret, which waits for its first code."""
    delete(connection, user_id)
    rows.insert(connection, user_id=user_id, sealed_secret=sealed_secret, is_confirmed=False)


def use(connection: sa.Connection, factor: SecondFactor, step: int) -> bool:
    """Record that a code was used; False when it, or a later one, was used meanwhile."""
    unused = sa.or_(_c.last_step.is_(None), _c.last_step < step)
    change = schema.second_factors.update().where(_c.id == factor.id, unused)
    return connection.execute(change.values(last_step=step, is_confirmed=True)).rowcount == 1


def delete(connection: sa.Connection, user_id: int) -> bool:
    """Delete a user's second factor; return whether there was one."""
    return connection.execute(schema.second_factors.delete().where(_c.user_id == user_id)).rowcount > 0
