# SPDX-License-Identifier: Apache-2.0
"""Changes of roles in the database: each function is one transaction with all of its checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from systemvm.management.accounts import records
from systemvm.management.accounts.errors import AccountError
from systemvm.management.state import accounts, events, roles
from systemvm.management.state.accounts import Account
from systemvm.management.state.database import Connection
from systemvm.management.state.roles import DEFAULTS, AccountRole, Permission
from systemvm.management.state.status import AccountType

MAX_NAME, MAX_DESCRIPTION, MAX_RULES = 255, 1024, 1000
_RULE = re.compile(r"[A-Za-z*]{1,100}")


def is_rule(text: str) -> bool:
    """Return whether a text is a pattern of commands."""
    return _RULE.fullmatch(text) is not None


def create(
    connection: Connection,
    name: str,
    role_type: AccountType,
    description: str,
    is_public: bool,
    rules: Sequence[tuple[str, bool, str]],
    user_id: int,
) -> AccountRole:
    """Create a role with these rules: pattern, whether it allows, description."""
    _check_texts(connection, name, description)
    role = roles.rows.insert(
        connection, name=name, type=int(role_type), description=description, is_public=is_public
    )
    for rule, is_allowed, text in rules:
        roles.add_permission(connection, role.id, rule, is_allowed, text)
    _record(connection, role, "ROLE.CREATE", "is created", user_id)
    return role


def update(connection: Connection, role_id: int, user_id: int, /, **columns: Any) -> AccountRole:
    """Change `name`, `description`, `type` or `is_public`.

    Raises: AccountError for a type other than that of the accounts that have the role.
    """
    role = roles.rows.by_id(connection, role_id)
    _check_texts(connection, columns.get("name"), columns.get("description", ""), but=role)
    if columns.get("type", role.type) != role.type and roles.is_used(connection, role_id):
        raise AccountError(
            f"type of role {role.name} cannot be changed: accounts have it", "omit type", parameter="type"
        )
    changed = roles.rows.update(connection, role_id, **columns) if columns else role
    _record(connection, changed, "ROLE.UPDATE", "is changed", user_id)
    return changed


def delete(connection: Connection, role_id: int, user_id: int) -> None:
    """Delete a role that no account has.

    Raises: AccountError when one has it; the message is CloudStack's.
    """
    role = roles.rows.by_id(connection, role_id)
    if roles.is_used(connection, role_id):
        raise AccountError(
            "Found accounts that have role in use, won't allow to delete role",
            "give them another role with updateAccount",
            parameter="id",
        )
    roles.remove(connection, role_id)
    _record(connection, role, "ROLE.DELETE", "is deleted", user_id)


def add_rule(
    connection: Connection, role_id: int, rule: str, is_allowed: bool, description: str, user_id: int
) -> Permission:
    """Add a rule after the others of a role.

    Raises: AccountError for a rule that is no pattern of commands, or that the role has.
    """
    role = roles.rows.by_id(connection, role_id)
    present = roles.permissions_of(connection, role_id)
    if not is_rule(rule):
        raise AccountError(
            f"Invalid role permission rule: {rule[:64]!r}; it must be letters and *",
            "write, for example, list*",
            parameter="rule",
        )
    if any(each.rule.lower() == rule.lower() for each in present):
        raise AccountError(
            f"Role {role.name} has the rule {rule}", "change it with updateRolePermission", parameter="rule"
        )
    if len(present) >= MAX_RULES:
        raise AccountError(
            f"role has too many rules: the maximum is {MAX_RULES}", "use patterns with *", parameter="roleid"
        )
    _check_description(description)
    made = roles.add_permission(connection, role_id, rule, is_allowed, description)
    _record(connection, role, "ROLE.PERMISSION.CREATE", f"has the rule {rule}", user_id)
    return made


def change_rule(connection: Connection, rule_id: int, is_allowed: bool, user_id: int) -> None:
    rule = roles.permission_rows.update(connection, rule_id, is_allowed=is_allowed)
    role = roles.rows.by_id(connection, rule.role_id)
    verb = "allows" if is_allowed else "denies"
    _record(connection, role, "ROLE.PERMISSION.UPDATE", f"{verb} {rule.rule}", user_id)


def reorder_rules(connection: Connection, role_id: int, uuids: Sequence[str], user_id: int) -> None:
    """Put all rules of a role in another order.

    Raises: AccountError unless each is named once.
    """
    role = roles.rows.by_id(connection, role_id)
    present = {each.uuid: each for each in roles.permissions_of(connection, role_id)}
    if sorted(uuids) != sorted(present):
        raise AccountError(
            f"ruleorder must name each of the {len(present)} rules of role {role.name} once",
            "see listRolePermissions",
            parameter="ruleorder",
        )
    roles.put_in_order(connection, [present[uuid] for uuid in uuids])
    _record(connection, role, "ROLE.PERMISSION.UPDATE", "has its rules in another order", user_id)


def delete_rule(connection: Connection, rule_id: int, user_id: int) -> None:
    rule = roles.permission_rows.by_id(connection, rule_id)
    roles.remove_permission(connection, rule_id)
    role = roles.rows.by_id(connection, rule.role_id)
    _record(connection, role, "ROLE.PERMISSION.DELETE", f"has no rule {rule.rule} any more", user_id)


def assign(connection: Connection, account_id: int, role_id: int | None) -> Account:
    """Give an account a role of its type; None is the one that each account of its type has.

    Raises: AccountError for a role of another type, and when no unrestricted administrator would be left.
    """
    account = records.require_account(connection, account_id)
    if role_id is not None:
        role = roles.rows.by_id(connection, role_id)
        if role.removed is not None or role.type != account.type:
            raise AccountError(
                f"role {role.name} is not for accounts of the type of {account.name}",
                "choose a role of the same type; see listRoles",
                parameter="roleid",
            )
    changed = accounts.update_account(connection, account_id, role_id=role_id)
    if not accounts.has_administrator(connection):
        raise AccountError(
            "this is the last root administrator whose role restricts nothing",
            "create or enable another one first",
            parameter="roleid",
        )
    return changed


def _check_texts(
    connection: Connection, name: str | None, description: str, *, but: AccountRole | None = None
) -> None:
    _check_description(description)
    if name is None:
        return
    if not name.strip() or len(name) > MAX_NAME:
        raise AccountError(
            f"Invalid value for parameter name: it must have 1 to {MAX_NAME} characters",
            "choose another name",
            parameter="name",
        )
    present = [each for each in roles.all_roles(connection) if each.removed is None and each != but]
    taken = [*(each.name for each in present), *(each.name for each in DEFAULTS)]
    if name.lower() in map(str.lower, taken):
        raise AccountError(f"Role {name} already exists", "choose another name", parameter="name")


def _check_description(description: str) -> None:
    if len(description) > MAX_DESCRIPTION:
        raise AccountError(
            f"description is too long: the maximum is {MAX_DESCRIPTION} characters", parameter="description"
        )


def _record(connection: Connection, role: AccountRole, kind: str, text: str, user_id: int) -> None:
    user = accounts.user_by_id(connection, user_id)
    events.record(
        connection,
        kind,
        f"role {role.name} {text}",
        account_id=user.account_id,
        domain_id=user.domain_id,
        user_id=user_id,
        resource_type="Role",
        resource_uuid=role.uuid,
    )
