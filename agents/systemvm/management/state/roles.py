# SPDX-License-Identifier: Apache-2.0
"""Roles: which commands an account's users can call, within what its type permits.

Each account has the role of its type unless an administrator has given it another one, with rules: the first
rule that matches a command decides, and a command that no rule matches is denied, as in CloudStack. Unlike
there, no rule permits what is not for accounts of the role's type.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.accounts import Account
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import AccountType


@frozen
class AccountRole:
    id: int
    uuid: str
    name: str
    type: int
    description: str
    is_public: bool
    created: datetime
    removed: datetime | None


@frozen
class Permission:
    id: int
    uuid: str
    role_id: int
    rule: str
    is_allowed: bool
    description: str
    place: int


@frozen
class Rules:
    """The rules of a role, in their order."""

    rules: tuple[tuple[str, bool], ...]  # a pattern, and whether it allows what it matches

    def permit(self, command: str) -> bool:
        """Return whether a command can be called, whatever the case of the rule's letters."""
        for rule, is_allowed in self.rules:
            if fnmatch.fnmatchcase(command.lower(), rule.lower()):
                return is_allowed
        return False


@frozen
class DefaultRole:
    """A role that every installation has, and that cannot be changed; its rules are what its type permits."""

    uuid: str
    name: str
    type: AccountType
    type_name: str
    description: str


DEFAULTS = (
    DefaultRole(
        "7c0d5b5e-2f0e-5d0a-9a5e-5c6d6d1f0001", "Root Admin", AccountType.ADMIN, "Admin",
        "can call every command",
    ),
    DefaultRole(
        "7c0d5b5e-2f0e-5d0a-9a5e-5c6d6d1f0002", "Domain Admin", AccountType.DOMAIN_ADMIN, "DomainAdmin",
        "manages a domain and those beneath it",
    ),
    DefaultRole(
        "7c0d5b5e-2f0e-5d0a-9a5e-5c6d6d1f0003", "User", AccountType.USER, "User",
        "uses what the own account has",
    ),
)  # fmt: skip
TYPE_NAMES = {role.type: role.type_name for role in DEFAULTS}

rows = Rows(schema.roles, AccountRole, "role")
permission_rows = Rows(schema.role_permissions, Permission, "role permission")
_p = schema.role_permissions.c


def all_roles(connection: sa.Connection) -> list[AccountRole]:
    """Return every role that was made, removed ones included."""
    return rows.all(connection)


def permissions_of(connection: sa.Connection, role_id: int) -> list[Permission]:
    """Return the rules of a role, in their order."""
    where = (_p.role_id == role_id, _p.removed.is_(None))
    return permission_rows.all(connection, *where, order_by=(_p.place, _p.id))


def rules_of(connection: sa.Connection, role_id: int | None) -> Rules | None:
    """Return the rules of a role; None for the role of a type, which permits all that the type does."""
    if role_id is None:
        return None
    return Rules(tuple((each.rule, each.is_allowed) for each in permissions_of(connection, role_id)))


def is_used(connection: sa.Connection, role_id: int) -> bool:
    """Return whether an account has a role."""
    a = schema.accounts.c
    query = sa.select(a.id).where(a.role_id == role_id, a.removed.is_(None)).limit(1)
    return connection.execute(query).first() is not None


def permits(connection: sa.Connection, account: Account, command: str) -> bool:
    """Return whether the role of an account permits a command; its type is another question."""
    rules = rules_of(connection, account.role_id)
    return rules is None or rules.permit(command)


def add_permission(
    connection: sa.Connection, role_id: int, rule: str, is_allowed: bool, description: str
) -> Permission:
    """Add a rule after those that a role has."""
    last = connection.scalar(sa.select(sa.func.max(_p.place)).where(_p.role_id == role_id)) or 0
    return permission_rows.insert(
        connection,
        role_id=role_id,
        rule=rule,
        is_allowed=is_allowed,
        description=description,
        place=last + 1,
    )


def put_in_order(connection: sa.Connection, permissions: Sequence[Permission]) -> None:
    for place, each in enumerate(permissions, 1):
        permission_rows.update(connection, each.id, place=place)


def remove(connection: sa.Connection, role_id: int) -> None:
    """Mark a role and its rules as removed."""
    rows.update(connection, role_id, removed=now())
    permission_rows.update_where(connection, _p.role_id == role_id, _p.removed.is_(None), removed=now())


def remove_permission(connection: sa.Connection, permission_id: int) -> None:
    permission_rows.update(connection, permission_id, removed=now())
