# SPDX-License-Identifier: Apache-2.0
"""Domains as a tree: who is beneath whom, and how the tree changes.

A path is unique for ever in the table, so a domain that is deleted gives its path back by taking another one.
"""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state import accounts, schema
from systemvm.management.state.accounts import Account, Domain
from systemvm.management.state.columns import now
from systemvm.management.state.status import AccountType

_a, _d = schema.accounts.c, schema.domains.c


def accounts_beneath(connection: sa.Connection, path: str) -> list[int]:
    """Return the numbers of the accounts in the domain with this path and in those beneath it."""
    query = _accounts_in(path).where(_a.removed.is_(None))
    return list(connection.scalars(query))


def reach_of(connection: sa.Connection, account: Account, domain: Domain) -> frozenset[int]:
    """Return the accounts that a domain administrator has access to, deleted ones too; of others none.

    A root administrator is never among them, whatever their domain.
    """
    if account.type != AccountType.DOMAIN_ADMIN:
        return frozenset()
    query = _accounts_in(domain.path).where(_a.type != int(AccountType.ADMIN))
    return frozenset(connection.scalars(query))


def beneath(connection: sa.Connection, domain: Domain) -> list[Domain]:
    """Return the domains beneath one that are not removed, the deepest first."""
    where = (_d.removed.is_(None), _d.id != domain.id, path_is_beneath(domain.path))
    found = accounts.domain_rows.all(connection, *where)
    return sorted(found, key=lambda each: each.path.count("/"), reverse=True)


def is_present(connection: sa.Connection, domain_id: int) -> bool:
    return accounts.domain_rows.one(connection, _d.id == domain_id, _d.removed.is_(None)) is not None


def directly_beneath(connection: sa.Connection, parent: Domain) -> list[Domain]:
    """Return the domains that are not removed and have this parent."""
    return accounts.domain_rows.all(connection, _d.removed.is_(None), _d.parent_id == parent.id)


def rename(connection: sa.Connection, domain: Domain, name: str, path: str) -> Domain:
    """Give a domain another name, and another path to it and to those beneath it."""
    for each in beneath(connection, domain):
        accounts.domain_rows.update(connection, each.id, path=path + each.path[len(domain.path) :])
    return accounts.domain_rows.update(connection, domain.id, name=name, path=path)


def remove(connection: sa.Connection, domain: Domain) -> None:
    accounts.domain_rows.update(connection, domain.id, removed=now(), path=f"//{domain.id}")


def _accounts_in(path: str) -> sa.Select[tuple[int]]:
    is_there = sa.or_(_d.path == path, path_is_beneath(path))
    return sa.select(_a.id).join(schema.domains, _d.id == _a.domain_id).where(is_there)


def path_is_beneath(path: str) -> sa.ColumnElement[bool]:
    """Return the condition that a domain is beneath the one with this path.

    It compares exactly: SQLite's LIKE, which `startswith` becomes, takes /sales and /Sales for one.
    """
    prefix = f"{path.rstrip('/')}/"
    return sa.func.substr(_d.path, 1, len(prefix)) == prefix
