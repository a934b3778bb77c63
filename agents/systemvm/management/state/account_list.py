# SPDX-License-Identifier: Apache-2.0
"""Lists of accounts, users and domains, without the system's own account and user, as in CloudStack."""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import accounts, schema
from systemvm.management.state.accounts import SYSTEM_ACCOUNT_ID, Account, Domain, User
from systemvm.management.state.domains import path_is_beneath
from systemvm.management.state.listing import (
    KEPT_LISTINGS,
    Listing,
    Order,
    by_name,
    contains,
    ordered,
    that_fit,
)
from systemvm.management.state.topics import columns

_a, _u, _d = schema.accounts.c, schema.users.c, schema.domains.c
_ACCOUNT_TOPICS = columns(schema.accounts, "removed", "name", "type", "state", "domain_id")
_USER_TOPICS = columns(
    schema.users,
    *("removed", "username", "state", "account_id", "domain_id", "first_name", "last_name", "email"),
)
_DOMAIN_TOPICS = columns(schema.domains, "removed", "name", "path", "parent_id")

#: By key of the rows.
ACCOUNT_SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {
    "name": by_name(_a.name),
    "state": _a.state,
    "created": _a.id,
}

USER_SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {
    "username": by_name(_u.username),
    "account": by_name(_a.name),
    "state": _u.state,
}

DOMAIN_SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {"name": by_name(_d.name), "path": _d.path}


@frozen
class AccountFilter:
    """Conditions for a list of accounts; None means any."""

    ids: frozenset[int] | None  # the numbers of those that its caller has access to
    uuid: str | None = None
    name: str | None = None
    type: int | None = None
    state: str | None = None  # whatever its case
    domain_ids: frozenset[int] | None = None
    keyword: str | None = None  # in the name, whatever its case


@frozen
class UserFilter:
    """Conditions for a list of users; None means any."""

    account_ids: frozenset[int] | None  # the accounts whose users its caller has access to
    uuid: str | None = None
    username: str | None = None
    account_name: str | None = None
    account_type: int | None = None
    state: str | None = None  # whatever its case
    domain_ids: frozenset[int] | None = None
    keyword: str | None = None  # in one of its names or its email address, whatever its case


@frozen
class DomainFilter:
    """Conditions for a list of domains; None means any."""

    ids: frozenset[int] | None = None  # the numbers of those that its caller has access to
    uuid: str | None = None
    name: str | None = None  # whatever its case
    level: int | None = None  # 0 for the root
    parent_id: int | None = None
    beneath: str | None = None  # a path: at any depth
    keyword: str | None = None  # in the name, whatever its case


def accounts_page(
    connection: sa.Connection, which: AccountFilter, window: slice, order: Order | None = None
) -> tuple[list[Account], int]:
    """Return the accounts in a window of the list, the oldest first, and how many there are in all."""
    listing = _accounts(which, order)
    found = [accounts.account_rows.value(row) for row in listing.page(connection, window)]
    return found, listing.count(connection)


def users_page(
    connection: sa.Connection, which: UserFilter, window: slice, order: Order | None = None
) -> tuple[list[User], int]:
    """Return the users in a window of the list, the oldest first, and how many there are in all."""
    listing = _users(which, order)
    found = [accounts.user_rows.value(row) for row in listing.page(connection, window)]
    return found, listing.count(connection)


def domains_page(
    connection: sa.Connection, which: DomainFilter, window: slice, order: Order | None = None
) -> tuple[list[Domain], int]:
    """Return the domains in a window of the list, the oldest first, and how many there are in all."""
    listing = _domains(which, order)
    found = [accounts.domain_rows.value(row) for row in listing.page(connection, window)]
    return found, listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _accounts(which: AccountFilter, order: Order | None) -> Listing:
    where = [_a.removed.is_(None), _a.id != SYSTEM_ACCOUNT_ID]
    where += that_fit(
        exact=(
            (_a.uuid, which.uuid),
            (_a.name, which.name),
            (_a.type, which.type),
        ),
        texts=((_a.state, which.state),),
        sets=((_a.id, which.ids), (_a.domain_id, which.domain_ids)),
    )
    if which.keyword is not None:
        where.append(contains(_a.name, which.keyword))
    return Listing(
        key=("accounts", which),
        rows=sa.select(*accounts.account_rows.columns),
        where=where,
        order_by=ordered(ACCOUNT_SORT_KEYS, order, _a.id),
        topics=_ACCOUNT_TOPICS,
    )


@functools.lru_cache(KEPT_LISTINGS)
def _users(which: UserFilter, order: Order | None) -> Listing:
    where = [_u.removed.is_(None), _u.account_id != SYSTEM_ACCOUNT_ID]
    where += that_fit(
        exact=(
            (_u.uuid, which.uuid),
            (_u.username, which.username),
            (_a.name, which.account_name),
            (_a.type, which.account_type),
        ),
        texts=((_u.state, which.state),),
        sets=((_u.account_id, which.account_ids), (_u.domain_id, which.domain_ids)),
    )
    if which.keyword is not None:
        texts = (_u.username, _u.first_name, _u.last_name, _u.email)
        where.append(sa.or_(*(contains(text, which.keyword) for text in texts)))
    return Listing(
        key=("users", which),
        rows=sa.select(*accounts.user_rows.columns).join(schema.accounts, _a.id == _u.account_id),
        where=where,
        order_by=ordered(USER_SORT_KEYS, order, _u.id),
        topics=(*_USER_TOPICS, *columns(schema.accounts, "name", "type")),
    )


@functools.lru_cache(KEPT_LISTINGS)
def _domains(which: DomainFilter, order: Order | None) -> Listing:
    where: list[sa.ColumnElement[bool]] = [_d.removed.is_(None)]
    # `/` is of level 0, `/a` of 1 and `/a/b` of 2
    slashes = sa.func.length(_d.path) - sa.func.length(sa.func.replace(_d.path, "/", ""))
    level = sa.case((_d.path == "/", 0), else_=slashes)
    where += that_fit(
        exact=((_d.uuid, which.uuid), (level, which.level), (_d.parent_id, which.parent_id)),
        texts=((_d.name, which.name),),
        sets=((_d.id, which.ids),),
    )
    if which.beneath is not None:
        where += [path_is_beneath(which.beneath), _d.path != which.beneath]
    if which.keyword is not None:
        where.append(contains(_d.name, which.keyword))
    return Listing(
        key=("domains", which),
        rows=sa.select(*accounts.domain_rows.columns),
        where=where,
        order_by=ordered(DOMAIN_SORT_KEYS, order, _d.id),
        topics=_DOMAIN_TOPICS,
    )
