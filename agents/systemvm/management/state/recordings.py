# SPDX-License-Identifier: Apache-2.0
"""Recordings of consoles, and the rules of VMs and accounts whose consoles are recorded."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.listing import KEPT_LISTINGS, Listing, contains
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import RecordingMode, RecordingState
from systemvm.management.state.topics import columns
from systemvm.wire.console import ConsoleKind
from systemvm.wire.recording import RecordingEnd


@frozen
class RecordingRow:
    """A recording; it belongs to the owner of the VM."""

    id: int
    uuid: str
    account_id: int
    domain_id: int
    zone_id: int
    session_id: int
    vm_id: int
    user_id: int  # who had the console open
    proxy_id: int
    store_id: int
    state: RecordingState
    end_code: str | None  # a RecordingEnd's value
    size_bytes: int
    sealed_key: bytes | None = field(repr=False)
    ended: datetime | None
    created: datetime
    updated: datetime
    removed: datetime | None


@frozen
class RecordingRule:
    id: int
    vm_id: int | None
    account_id: int | None
    mode: RecordingMode


rows = Rows(schema.console_recordings, RecordingRow, "recording")
rules = Rows(schema.console_recording_rules, RecordingRule, "recording rule")
_c, _r = schema.console_recordings.c, schema.console_recording_rules.c

by_uuid = rows.by_uuid
_ROWS = sa.select(*rows.columns)
_TOPICS = (
    *columns(schema.console_recordings, "removed", "state", "account_id", "created"),
    *columns(schema.vm_instances, "name", "display_name"),
    *columns(schema.users, "username"),
)
#: Those that users do not see. Named, because SQLite would sort all the others that it finds by an index.
_HIDDEN = (RecordingState.ORDERED, RecordingState.DELETING)


def create(connection: sa.Connection, /, **values: Any) -> RecordingRow:
    return rows.insert(connection, **values)


def of_proxy(connection: sa.Connection, uuid: str, proxy_id: int) -> RecordingRow | None:
    """Return a recording of this CPVM that is not being deleted."""
    return rows.one(
        connection,
        _c.uuid == uuid,
        _c.proxy_id == proxy_id,
        _c.removed.is_(None),
        _c.state != RecordingState.DELETING,
    )


def grow(connection: sa.Connection, uuid: str, size_bytes: int) -> None:
    """Note how much of a recording is stored; one that was thought to be interrupted keeps its reason."""
    rows.update_where(connection, _c.uuid == uuid, _c.size_bytes < size_bytes, size_bytes=size_bytes)
    rows.update_where(
        connection, _c.uuid == uuid, _c.state == RecordingState.ORDERED, state=RecordingState.RECORDING
    )


def end(connection: sa.Connection, uuid: str, end: RecordingEnd) -> RecordingRow | None:
    """End a recording; None when it had ended in this way, or nothing of it is there."""
    row = rows.one(connection, _c.uuid == uuid, _c.removed.is_(None))
    if row is None or row.end_code == end.value or row.state is RecordingState.DELETING:
        return None
    if not row.size_bytes:
        rows.update_where(connection, _c.uuid == uuid, removed=now(), end_code=end.value, ended=now())
        return None
    state = RecordingState.COMPLETE if end is RecordingEnd.COMPLETE else RecordingState.INCOMPLETE
    rows.update_where(connection, _c.uuid == uuid, state=state, end_code=end.value, ended=row.ended or now())
    return rows.one(connection, _c.uuid == uuid)


@frozen
class RecordingFilter:
    """Conditions for a list of recordings; None means any."""

    account_ids: frozenset[int] | None = None  # of the VMs' owners
    uuid: str | None = None
    vm_uuid: str | None = None
    session_uuid: str | None = None
    user_uuid: str | None = None
    kind: ConsoleKind | None = None
    state: RecordingState | None = None
    since: datetime | None = None
    before: datetime | None = None
    keyword: str | None = None  # in the name of the VM or of who had the console open, whatever its case


def page(connection: sa.Connection, which: RecordingFilter, window: slice) -> tuple[list[RecordingRow], int]:
    """Return the recordings in a window of those that fit, the newest first, and how many fit."""
    listing = _listing(which)
    return [rows.value(row) for row in listing.page(connection, window)], listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: RecordingFilter) -> Listing:
    return Listing(
        key=("recordings", which),
        rows=_ROWS,
        where=_conditions(which),
        order_by=(_c.id.desc(),),
        topics=_TOPICS,
    )


def _conditions(which: RecordingFilter) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [_c.removed.is_(None), _c.state.not_in(_HIDDEN)]
    if which.account_ids is not None:
        where.append(_c.account_id.in_(which.account_ids))
    for column, table, uuid in (
        (_c.vm_id, schema.vm_instances, which.vm_uuid),
        (_c.session_id, schema.console_sessions, which.session_uuid),
        (_c.user_id, schema.users, which.user_uuid),
    ):
        if uuid is not None:
            where.append(column.in_(sa.select(table.c.id).where(table.c.uuid == uuid)))
    if which.kind is not None:
        sessions = schema.console_sessions.c
        where.append(_c.session_id.in_(sa.select(sessions.id).where(sessions.kind == which.kind)))
    if which.uuid is not None:
        where.append(_c.uuid == which.uuid)
    if which.state is not None:
        where.append(_c.state == which.state)
    if which.since is not None:
        where.append(_c.created >= which.since)
    if which.before is not None:
        where.append(_c.created < which.before)
    if which.keyword is not None:
        vms, users = schema.vm_instances.c, schema.users.c
        shown_name = sa.func.coalesce(sa.func.nullif(vms.display_name, ""), vms.name)
        of_vms = sa.select(vms.id).where(contains(shown_name, which.keyword))
        of_users = sa.select(users.id).where(contains(users.username, which.keyword))
        where.append(sa.or_(_c.vm_id.in_(of_vms), _c.user_id.in_(of_users)))
    return where


def request_deletion(connection: sa.Connection, uuid: str) -> None:
    """Hide a recording; its file is deleted by `deletable`."""
    rows.update_where(connection, _c.uuid == uuid, _c.removed.is_(None), state=RecordingState.DELETING)


def deletable(connection: sa.Connection, limit: int) -> list[RecordingRow]:
    """Return recordings whose files are to be deleted, the oldest first."""
    return rows.all(connection, _c.removed.is_(None), _c.state == RecordingState.DELETING, limit=limit)


def deleted(connection: sa.Connection, uuid: str) -> None:
    rows.update_where(connection, _c.uuid == uuid, _c.removed.is_(None), removed=now())


def expired(connection: sa.Connection, zone_id: int, before: datetime) -> list[RecordingRow]:
    """Return recordings of a zone that ended before a time."""
    return rows.all(
        connection,
        _c.zone_id == zone_id,
        _c.removed.is_(None),
        _c.ended < before,
        _c.state != RecordingState.DELETING,
    )


def abandoned(connection: sa.Connection, before: datetime) -> list[RecordingRow]:
    """Return recordings whose session has ended and of which nothing has come since a time."""
    ended = sa.select(schema.console_sessions.c.id).where(schema.console_sessions.c.removed.is_not(None))
    return rows.all(
        connection,
        _c.removed.is_(None),
        _c.state.in_((RecordingState.ORDERED, RecordingState.RECORDING)),
        _c.updated < before,
        _c.session_id.in_(ended),
    )


def mode_of(connection: sa.Connection, vm_id: int, account_id: int) -> RecordingMode | None:
    """Return the rule of a VM, or else of its account; None when neither has one."""
    for column, number in ((_r.vm_id, vm_id), (_r.account_id, account_id)):
        rule = rules.one(connection, column == number)
        if rule is not None:
            return rule.mode
    return None


def put_rule(
    connection: sa.Connection, mode: RecordingMode | None, *, vm_id: int | None, account_id: int | None
) -> None:
    """Set the rule of a VM or an account; None removes it."""
    which = _r.vm_id == vm_id if vm_id is not None else _r.account_id == account_id
    connection.execute(schema.console_recording_rules.delete().where(which))
    if mode is not None:
        rules.insert(connection, vm_id=vm_id, account_id=account_id, mode=mode)


def all_rules(connection: sa.Connection) -> list[RecordingRule]:
    return rules.all(connection)
