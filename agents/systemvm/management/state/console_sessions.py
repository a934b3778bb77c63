# SPDX-License-Identifier: Apache-2.0
"""Console sessions: a one-time token, stored as its hash, and the session that it opened."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import events, schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError, Rows
from systemvm.management.state.status import RecordingMode
from systemvm.wire.console import UNRESTRICTED, ConsoleKind, ConsolePolicy

#: `resource_type` of their events.
SESSION = "ConsoleSession"


@frozen
class ConsoleSessionRow:
    id: int
    uuid: str  # the session id that CPVM and daemon exchange
    account_id: int
    domain_id: int
    zone_id: int | None
    user_id: int
    vm_id: int
    proxy_id: int | None
    token_expires: datetime
    acquired: datetime | None
    session_expires: datetime | None
    creator_address: str | None
    client_address: str | None
    close_reason: str | None
    close_code: str | None  # for programs
    extra_hash: str | None
    takes_over: bool
    sent_bytes: int  # to the browser
    received_bytes: int
    created: datetime
    removed: datetime | None
    view_only: bool
    clipboard_to_guest: bool
    clipboard_from_guest: bool
    recording: RecordingMode
    watches: str | None  # the session that it watches
    kind: ConsoleKind

    @property
    def policy(self) -> ConsolePolicy:
        return ConsolePolicy(self.view_only, self.clipboard_to_guest, self.clipboard_from_guest)


rows = Rows(schema.console_sessions, ConsoleSessionRow, "console session")
_c = schema.console_sessions.c

by_uuid = rows.by_uuid


def create(
    connection: sa.Connection,
    *,
    account_id: int,
    domain_id: int,
    zone_id: int,
    user_id: int,
    vm_id: int,
    proxy_id: int,
    token_hash: str,
    token_expires: datetime,
    creator_address: str | None,
    login_uuid: str | None = None,
    extra_hash: str | None = None,
    takes_over: bool = False,
    policy: ConsolePolicy = UNRESTRICTED,
    recording: RecordingMode = RecordingMode.OFF,
    watches: str | None = None,
    kind: ConsoleKind = ConsoleKind.SCREEN,
) -> ConsoleSessionRow:
    return rows.insert(
        connection,
        account_id=account_id,
        domain_id=domain_id,
        zone_id=zone_id,
        user_id=user_id,
        vm_id=vm_id,
        proxy_id=proxy_id,
        token_hash=token_hash,
        token_expires=token_expires,
        creator_address=creator_address,
        login_uuid=login_uuid,
        extra_hash=extra_hash,
        takes_over=takes_over,
        view_only=policy.view_only,
        clipboard_to_guest=policy.clipboard_to_guest,
        clipboard_from_guest=policy.clipboard_from_guest,
        recording=recording,
        watches=watches,
        kind=kind,
    )


def by_token_hash(connection: sa.Connection, token_hash: str) -> ConsoleSessionRow | None:
    """Return a session by its token, even a spent or expired one, to explain why it was refused."""
    return rows.one(connection, _c.token_hash == token_hash)


def spend(
    connection: sa.Connection,
    token_hash: str,
    *,
    proxy_id: int,
    client_address: str,
    session_expires: datetime,
) -> ConsoleSessionRow | None:
    """Spend a token at the CPVM that it was created for; None unless this call was the one that spent it."""
    spent = rows.update_where(
        connection,
        _c.token_hash == token_hash,
        _c.proxy_id == proxy_id,
        _c.acquired.is_(None),
        _c.removed.is_(None),
        _c.token_expires > now(),
        acquired=now(),
        client_address=client_address,
        session_expires=session_expires,
    )
    return rows.one(connection, _c.token_hash == token_hash) if spent else None


def close(
    connection: sa.Connection,
    uuid: str,
    reason: str,
    *,
    code: str = "",
    sent_bytes: int = 0,
    received_bytes: int = 0,
) -> bool:
    """End a session; return False when it had already ended, which keeps its reason."""
    traffic = {"sent_bytes": sent_bytes, "received_bytes": received_bytes}
    closed = rows.update_where(
        connection,
        _c.uuid == uuid,
        _c.removed.is_(None),
        removed=now(),
        close_reason=reason,
        close_code=code or None,
        **traffic,
    )
    if not closed and any(traffic.values()):
        # the daemon ended it first; only the CPVM knows the traffic
        rows.update_where(connection, _c.uuid == uuid, _c.sent_bytes == 0, _c.received_bytes == 0, **traffic)
    if closed:
        record(connection, by_uuid_ended(connection, uuid), "CLOSE", f"ends: {reason}")
    return bool(closed)


def find_any(connection: sa.Connection, uuid: str) -> ConsoleSessionRow | None:
    """Return a session whether it has ended or not; None when there never was one."""
    return rows.one(connection, _c.uuid == uuid)


def by_uuid_ended(connection: sa.Connection, uuid: str) -> ConsoleSessionRow:
    """Return a session whether it has ended or not.

    Raises: NotFoundError when there never was one.
    """
    row = find_any(connection, uuid)
    if row is None:
        raise NotFoundError(f"there is no console session {uuid}", value=uuid)
    return row


def record(
    connection: sa.Connection,
    session: ConsoleSessionRow,
    what: str,
    text: str,
    *,
    level: str = "INFO",
    about: str | None = None,
    request_id: str | None = None,
) -> None:
    """Record an event of a console session, for `systemvm trace`; it belongs to the session's account.

    `about` is another session that the event is about.
    """
    events.record(
        connection,
        f"CONSOLE.{what}",
        f"console session {text}",
        account_id=session.account_id,
        domain_id=session.domain_id,
        user_id=session.user_id,
        level=level,
        resource_type=SESSION,
        resource_uuid=about or session.uuid,
        request_id=request_id,
    )


@frozen
class PendingSessions:
    """Sessions of a CPVM that are not in the load it reported."""

    unspent: int = 0
    just_opened: int = 0


def pending_by_proxy(connection: sa.Connection, opened_since: datetime) -> dict[int, PendingSessions]:
    """Return by CPVM the number of unspent tokens, and of sessions opened after `opened_since`."""
    query = (
        sa.select(
            _c.proxy_id,
            sa.func.count().filter(_c.acquired.is_(None)),
            sa.func.count().filter(_c.acquired > opened_since),
        )
        .where(
            _c.removed.is_(None),
            _c.proxy_id.is_not(None),
            sa.or_(_c.acquired.is_(None), _c.acquired > opened_since),
        )
        .group_by(_c.proxy_id)
    )
    return {
        proxy_id: PendingSessions(unspent, just_opened)
        for proxy_id, unspent, just_opened in connection.execute(query)
    }


def serial_proxy(connection: sa.Connection, vm_id: int) -> int | None:
    """Return the CPVM of the VM's newest serial console: a serial port has one client, whom others join."""
    query = (
        sa.select(_c.proxy_id)
        .where(_c.removed.is_(None), _c.vm_id == vm_id, _c.kind == ConsoleKind.SERIAL)
        .order_by(_c.acquired.is_(None), _c.id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar()


def active(connection: sa.Connection, proxy_id: int | None = None) -> list[ConsoleSessionRow]:
    """Return the sessions whose token is spent and that have not ended."""
    where: list[sa.ColumnElement[bool]] = [_c.removed.is_(None), _c.acquired.is_not(None)]
    if proxy_id is not None:
        where.append(_c.proxy_id == proxy_id)
    return rows.all(connection, *where)


def watchable(connection: sa.Connection, vm_id: int) -> list[ConsoleSessionRow]:
    """Return the open sessions of a VM that do not watch another one, the newest first."""
    where = (_c.vm_id == vm_id, _c.removed.is_(None), _c.acquired.is_not(None), _c.watches.is_(None))
    return rows.all(connection, *where, order_by=(_c.id.desc(),))


def open_at(
    connection: sa.Connection, *, vm_id: int | None = None, proxy_name: str | None = None
) -> set[tuple[str, int]]:
    """Return the CPVMs' names and VMs' numbers of open sessions: of one VM, or of one CPVM."""
    proxies = schema.vm_instances.c
    query = sa.select(proxies.instance_name, _c.vm_id).where(
        _c.removed.is_(None), _c.acquired.is_not(None), proxies.id == _c.proxy_id
    )
    if vm_id is not None:
        query = query.where(_c.vm_id == vm_id)
    if proxy_name is not None:
        query = query.where(proxies.instance_name == proxy_name)
    return {(name, vm) for name, vm in connection.execute(query)}


def of_others(connection: sa.Connection, proxy_id: int, uuids: list[str]) -> bool:
    """Return whether any of these sessions belongs to another CPVM."""
    for begin in range(0, len(uuids), 500):  # SQLite limits the number of parameters
        named = _c.uuid.in_(uuids[begin : begin + 500])
        others = sa.or_(_c.proxy_id.is_(None), _c.proxy_id != proxy_id)
        if connection.execute(sa.select(_c.id).where(named, others).limit(1)).first() is not None:
            return True
    return False


def list_all(connection: sa.Connection) -> list[ConsoleSessionRow]:
    """Return all sessions, ended ones included, oldest first."""
    return rows.all(connection)


def expire(connection: sa.Connection) -> int:
    """End unspent tokens and sessions whose time is over; return how many."""
    unused = sa.and_(_c.acquired.is_(None), _c.token_expires <= now())
    over = sa.and_(_c.acquired.is_not(None), _c.session_expires <= now())
    return rows.update_where(
        connection,
        _c.removed.is_(None),
        sa.or_(unused, over),
        removed=now(),
        close_reason="expired",
        close_code="expired",
    )
