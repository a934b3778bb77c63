# SPDX-License-Identifier: Apache-2.0
"""What accounts have used: bytes on secondary storage, bytes served by links, time in consoles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.wire.storage import DownloadState

_served, _accounts = schema.served_bytes.c, schema.accounts.c
_refs, _templates = schema.template_store_refs.c, schema.templates.c
_snapshots, _recordings, _sessions = (
    schema.snapshots.c,
    schema.console_recordings.c,
    schema.console_sessions.c,
)
#: The column of the account, and a query for sums by it.
Sums = tuple[sa.Column[int], Any]

#: Of the row with what processes counted that have ended.
_ENDED = ""


@frozen
class AccountUsage:
    account_id: int
    stored_bytes: int  # every copy on every store
    served_bytes: int  # ever
    console_seconds: int  # ever, open consoles until now


def record_served(
    connection: sa.Connection, agent_name: str, instance: str, counted: Mapping[int, int]
) -> None:
    """Record what one process of an SSVM has sent since its start, by account; repeating it has no effect.

    A process counts only while no other one of the same SSVM does.
    """
    _end_others(connection, agent_name, instance)
    known = set(connection.scalars(sa.select(_accounts.id).where(_accounts.id.in_(counted))))
    for account_id in sorted(known):
        _raise_to(connection, account_id, agent_name, instance, counted[account_id])


def usage(
    connection: sa.Connection, account_ids: frozenset[int] | None, *, limit: int | None = None
) -> list[AccountUsage]:
    """Return the usage of each account that is not removed, in the order of their numbers; None means all."""
    query = sa.select(_accounts.id).where(_accounts.removed.is_(None)).order_by(_accounts.id).limit(limit)
    if account_ids is not None:
        query = query.where(_accounts.id.in_(account_ids))
    wanted = list(connection.scalars(query))
    one = wanted[0] if len(wanted) == 1 else None
    stored = sum((_by_account(connection, sums, one) for sums in _stored()), Counter())
    sent = _by_account(connection, _sums(_served.account_id, _served.size_bytes), one)
    time = _by_account(connection, _seconds(), one)
    return [AccountUsage(number, stored[number], sent[number], time[number]) for number in wanted]


def count_accounts(connection: sa.Connection) -> int:
    """Return how many accounts have a usage."""
    query = sa.select(sa.func.count()).select_from(schema.accounts).where(_accounts.removed.is_(None))
    return connection.scalar(query) or 0


def _raise_to(
    connection: sa.Connection, account_id: int, agent_name: str, instance: str, size_bytes: int
) -> None:
    key = (_served.account_id == account_id, _served.agent_name == agent_name, _served.instance == instance)
    present = connection.scalar(sa.select(_served.size_bytes).where(*key))
    if present is None:
        values = {"account_id": account_id, "agent_name": agent_name, "instance": instance}
        connection.execute(schema.served_bytes.insert().values(**values, size_bytes=size_bytes))
    elif present < size_bytes:
        connection.execute(schema.served_bytes.update().where(*key).values(size_bytes=size_bytes))


def _end_others(connection: sa.Connection, agent_name: str, instance: str) -> None:
    """Add what other processes of the SSVM counted to its row of ended ones."""
    others = (_served.agent_name == agent_name, _served.instance.not_in([instance, _ENDED]))
    total = sa.func.sum(_served.size_bytes)
    counted = sa.select(_served.account_id, total).where(*others).group_by(_served.account_id)
    for account_id, size_bytes in connection.execute(counted).all():
        ended = (_served.account_id == account_id, _served.agent_name == agent_name)
        before = connection.scalar(sa.select(_served.size_bytes).where(*ended, _served.instance == _ENDED))
        _raise_to(connection, account_id, agent_name, _ENDED, int(before or 0) + int(size_bytes))
    connection.execute(schema.served_bytes.delete().where(*others))


def _sums(account_id: sa.Column[int], value: sa.ColumnElement[int], *where: sa.ColumnElement[bool]) -> Sums:
    """Return the sums of all accounts in one pass: a query for each account would read all rows each time."""
    return account_id, sa.select(account_id, sa.func.sum(value)).where(*where).group_by(account_id)


def _by_account(connection: sa.Connection, sums: Sums, account_id: int | None) -> Counter[int]:
    """Return the sums of one account, or of all."""
    column, query = sums
    if account_id is not None:
        query = query.where(column == account_id)
    return Counter({number: int(total or 0) for number, total in connection.execute(query)})


def _stored() -> Iterator[Sums]:
    yield _sums(
        _templates.account_id,
        _refs.physical_size_bytes,
        _refs.template_id == _templates.id,
        _refs.state == DownloadState.DOWNLOADED,
        _refs.removed.is_(None),
    )
    yield _sums(
        _snapshots.account_id,
        _snapshots.physical_size_bytes,
        _snapshots.store_id.is_not(None),
        _snapshots.removed.is_(None),
    )
    yield _sums(_recordings.account_id, _recordings.size_bytes, _recordings.removed.is_(None))


def _seconds() -> Sums:
    end = sa.func.coalesce(_sessions.removed, sa.literal(now(), _sessions.removed.type))
    elapsed = sa.extract("epoch", end) - sa.extract("epoch", _sessions.acquired)
    return _sums(
        _sessions.account_id,
        elapsed,
        _sessions.acquired.is_not(None),
        _sessions.watches.is_(None),  # an administrator who watches uses nothing of the account's
    )
