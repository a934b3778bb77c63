# SPDX-License-Identifier: Apache-2.0
"""Lists of console sessions: the newest first, ended ones included."""

from __future__ import annotations

import functools
from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import console_sessions, schema
from systemvm.management.state.console_sessions import ConsoleSessionRow
from systemvm.management.state.listing import KEPT_LISTINGS, Listing, contains, that_fit
from systemvm.management.state.topics import columns

_c, _u, _v = schema.console_sessions.c, schema.users.c, schema.vm_instances.c
_ROWS = sa.select(*console_sessions.rows.columns).join(schema.vm_instances, _v.id == _c.vm_id)
_TOPICS = (
    *columns(schema.console_sessions, "removed", "acquired", "client_address", "user_id", "vm_id", "created"),
    *columns(schema.vm_instances, "name", "display_name", "host_id"),
    *columns(schema.users, "account_id"),
)


@frozen
class ConsoleSessionFilter:
    """Conditions for a list of sessions; None means any."""

    account_ids: frozenset[int] | None = None  # of the users who asked for them
    uuid: str | None = None
    user_uuid: str | None = None
    account_uuid: str | None = None
    vm_uuid: str | None = None
    host_uuid: str | None = None
    creator_address: str | None = None
    client_address: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    is_active: bool = False  # opened and not ended
    is_acquired: bool = False  # opened
    keyword: str | None = None  # in the VM's name that users see, whatever its case


def page(
    connection: sa.Connection, which: ConsoleSessionFilter, window: slice
) -> tuple[list[ConsoleSessionRow], int]:
    """Return the sessions in a window of those that fit, the newest first, and how many fit."""
    listing = _listing(which)
    found = [console_sessions.rows.value(row) for row in listing.page(connection, window)]
    return found, listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: ConsoleSessionFilter) -> Listing:
    return Listing(
        key=("console sessions", which),
        rows=_ROWS,
        where=_conditions(which),
        order_by=(_c.id.desc(),),
        topics=_TOPICS,
    )


def _conditions(which: ConsoleSessionFilter) -> list[sa.ColumnElement[bool]]:
    where = that_fit(
        exact=(
            (_c.uuid, which.uuid),
            (_c.creator_address, which.creator_address),
            (_c.client_address, which.client_address),
        ),
    )
    if which.account_ids is not None:
        where.append(_c.user_id.in_(sa.select(_u.id).where(_u.account_id.in_(which.account_ids))))
    if which.account_uuid is not None:
        owners = schema.accounts.c
        of_account = sa.select(_u.id).join(schema.accounts, owners.id == _u.account_id)
        where.append(_c.user_id.in_(of_account.where(owners.uuid == which.account_uuid)))
    if which.user_uuid is not None:
        where.append(_c.user_id.in_(sa.select(_u.id).where(_u.uuid == which.user_uuid)))
    if which.vm_uuid is not None:
        vm = schema.vm_instances.alias().c
        where.append(_c.vm_id.in_(sa.select(vm.id).where(vm.uuid == which.vm_uuid)))
    if which.host_uuid is not None:
        hosts = schema.hosts.c
        where.append(_v.host_id.in_(sa.select(hosts.id).where(hosts.uuid == which.host_uuid)))
    if which.since is not None:
        where.append(_c.created >= which.since)
    if which.before is not None:
        where.append(_c.created < which.before)
    if which.is_active or which.is_acquired:
        where.append(_c.acquired.is_not(None))
    if which.is_active:
        where.append(_c.removed.is_(None))
    if which.keyword is not None:
        shown_name = sa.func.coalesce(sa.func.nullif(_v.display_name, ""), _v.name)
        where.append(contains(shown_name, which.keyword))
    return where
