# SPDX-License-Identifier: Apache-2.0
"""Ends of console sessions that the daemon decides: for a VM, a login, users, a CPVM, or by a newer link."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.console_sessions import ConsoleSessionRow, rows
from systemvm.wire.console import ConsoleKind, ConsoleRefusal

#: `close_reason` of a token that a newer one replaced.
REPLACED = ConsoleRefusal.TOKEN_REPLACED.value

_c = schema.console_sessions.c


def revoke_of_vm(connection: sa.Connection, vm_id: int, reason: str) -> dict[str, list[str]]:
    """End a VM's sessions and void its unspent tokens; return the open sessions by the name of their CPVM."""
    return _revoke(connection, _c.vm_id == vm_id, reason)


def revoke_of_login(connection: sa.Connection, login_uuid: str, reason: str) -> dict[str, list[str]]:
    """As `revoke_of_vm`, for what a login asked for."""
    return _revoke(connection, _c.login_uuid == login_uuid, reason)


def revoke_of_users(connection: sa.Connection, user_ids: Sequence[int], reason: str) -> dict[str, list[str]]:
    """As `revoke_of_vm`, for what these users asked for."""
    return _revoke(connection, _c.user_id.in_(user_ids), reason)


def revoke_of_others(connection: sa.Connection, kept: ConsoleSessionRow, reason: str) -> dict[str, list[str]]:
    """As `revoke_of_vm`, for the VM's open sessions of a kind but one; links not yet opened stay valid."""
    which = sa.and_(_c.vm_id == kept.vm_id, _c.kind == kept.kind, _c.id != kept.id, _c.acquired.is_not(None))
    return _revoke(connection, which, reason)


def revoke_one(connection: sa.Connection, uuid: str, reason: str) -> dict[str, list[str]]:
    return _revoke(connection, _c.uuid == uuid, reason)


def _revoke(connection: sa.Connection, which: sa.ColumnElement[bool], reason: str) -> dict[str, list[str]]:
    living = sa.and_(_c.removed.is_(None), which)
    proxies = schema.vm_instances.c
    query = sa.select(proxies.instance_name, _c.uuid).where(
        living, _c.acquired.is_not(None), proxies.id == _c.proxy_id
    )
    opened: dict[str, list[str]] = {}
    for name, uuid in connection.execute(query):
        opened.setdefault(name, []).append(uuid)
    rows.update_where(connection, living, removed=now(), close_reason=reason, close_code=reason)
    return opened


def close_reasons(connection: sa.Connection, uuids: Sequence[str]) -> dict[str, str]:
    """Return the reasons of those sessions that have ended."""
    found: dict[str, str] = {}
    for begin in range(0, len(uuids), 500):  # SQLite limits the number of parameters
        query = sa.select(_c.uuid, _c.close_reason).where(
            _c.uuid.in_(uuids[begin : begin + 500]), _c.close_reason.is_not(None)
        )
        found.update((uuid, reason) for uuid, reason in connection.execute(query))
    return found


def end_of_proxy(connection: sa.Connection, proxy_id: int, reason: str) -> int:
    """End all sessions of a CPVM that has restarted, and so has lost them."""
    connection.execute(
        schema.vm_instances.update().where(schema.vm_instances.c.id == proxy_id).values(console_sessions=0)
    )
    return rows.update_where(
        connection, _c.proxy_id == proxy_id, _c.removed.is_(None), removed=now(), close_reason=reason
    )


def replace_unspent(
    connection: sa.Connection,
    *,
    user_id: int,
    account_id: int,
    vm_id: int,
    kind: ConsoleKind,
    of_vm: int,
    of_account: int,
) -> int:
    """Revoke the tokens that a new one of this user replaces; return how many.

    These are the user's own for this kind of console of the VM, and the account's oldest when its unspent
    tokens for the VM reach `of_vm`, or all its unspent tokens reach `of_account`. Tokens of other accounts
    are never revoked.
    """
    unspent = sa.and_(_c.removed.is_(None), _c.acquired.is_(None))
    of_own_account = _c.user_id.in_(
        sa.select(schema.users.c.id).where(schema.users.c.account_id == account_id)
    )
    mine = sa.select(_c.id).where(unspent, of_own_account).order_by(_c.id.desc())
    return rows.update_where(
        connection,
        unspent,
        sa.or_(
            sa.and_(_c.user_id == user_id, _c.vm_id == vm_id, _c.kind == kind),
            _c.id.in_(mine.where(_c.vm_id == vm_id).offset(of_vm - 1)),
            _c.id.in_(mine.offset(of_account - 1)),
        ),
        removed=now(),
        close_reason=REPLACED,
    )
