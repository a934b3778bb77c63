# SPDX-License-Identifier: Apache-2.0
"""Domains, accounts, users and their API keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import AccountType

#: The account that system VMs belong to, as in CloudStack: `template/tmpl/1/<id>`.
SYSTEM_ACCOUNT_ID = 1
ROOT_DOMAIN_ID = 1
#: States of accounts and users. A locked account keeps its machines running; a disabled one does not.
ENABLED, DISABLED, LOCKED = "enabled", "disabled", "locked"


@frozen
class Domain:
    id: int
    uuid: str
    name: str
    path: str
    parent_id: int | None

    @property
    def pretty_path(self) -> str:
        """The path as CloudStack returns it, ROOT or ROOT/a/b (ApiResponseHelper.getPrettyDomainPath)."""
        return f"ROOT{self.path}".rstrip("/")

    def is_beneath(self, other: Domain) -> bool:
        """Return whether this domain is one of those beneath another one."""
        return self.id != other.id and self.path.startswith(f"{other.path.rstrip('/')}/")


@frozen
class Account:
    id: int
    uuid: str
    name: str
    type: int = field(converter=AccountType)
    domain_id: int
    state: str
    max_secondary_storage_gib: int | None  # None: the zone's; -1: no limit
    role_id: int | None  # None: the role that each account of its type has
    created: datetime
    removed: datetime | None

    @property
    def is_admin(self) -> bool:
        return self.type == AccountType.ADMIN

    @property
    def may_run_machines(self) -> bool:
        return self.removed is None and self.state != DISABLED


@frozen
class User:
    id: int
    uuid: str
    username: str
    password_hash: str | None = field(repr=False)
    account_id: int
    domain_id: int
    first_name: str
    last_name: str
    email: str
    state: str
    created: datetime
    removed: datetime | None
    second_factor_mandated: bool = False


@frozen
class ApiKey:
    id: int
    user_id: int
    api_key: str
    sealed_secret: bytes = field(repr=False)
    uuid: str
    name: str | None  # None: the one of registerUserKeys
    expires: datetime | None
    rules: list[str] | None  # patterns of the commands that it can call; None: all that its user can
    created: datetime


domain_rows = Rows(schema.domains, Domain, "domain")
account_rows = Rows(schema.accounts, Account, "account")
user_rows = Rows(schema.users, User, "user")
key_rows = Rows(schema.api_keys, ApiKey, "API key")

domain_by_id = domain_rows.by_id
domain_by_uuid = domain_rows.by_uuid
account_by_id = account_rows.by_id
account_by_uuid = account_rows.by_uuid
user_by_id = user_rows.by_id
user_by_uuid = user_rows.by_uuid
users_by_id = user_rows.by_ids


def is_empty(connection: sa.Connection) -> bool:
    """Return whether there is no account yet, as before the first start."""
    return account_rows.one(connection) is None


def create_domain(connection: sa.Connection, name: str, path: str, parent_id: int | None = None) -> Domain:
    return domain_rows.insert(connection, name=name, path=path, parent_id=parent_id)


def create_account(
    connection: sa.Connection,
    name: str,
    account_type: AccountType,
    domain_id: int,
    role_id: int | None = None,
) -> Account:
    return account_rows.insert(
        connection, name=name, type=int(account_type), domain_id=domain_id, role_id=role_id
    )


def create_user(
    connection: sa.Connection, username: str, account: Account, password_hash: str | None, **columns: Any
) -> User:
    return user_rows.insert(
        connection,
        username=username,
        account_id=account.id,
        domain_id=account.domain_id,
        password_hash=password_hash,
        **columns,
    )


def domain_by_path(connection: sa.Connection, path: str) -> Domain | None:
    """Return a domain by `/`, `ROOT`, `ROOT/a/b`, `/a/b` or `a/b`; an empty path is the root."""
    first, _, beneath = path.strip("/").partition("/")
    wanted = f"/{beneath}" if first.upper() == "ROOT" else "/" + path.strip("/")
    return domain_rows.one(connection, schema.domains.c.path == wanted, schema.domains.c.removed.is_(None))


def user_by_name(connection: sa.Connection, username: str, domain_id: int = ROOT_DOMAIN_ID) -> User | None:
    c = schema.users.c
    return user_rows.one(connection, c.username == username, c.domain_id == domain_id, c.removed.is_(None))


def account_by_name(connection: sa.Connection, name: str, domain_id: int = ROOT_DOMAIN_ID) -> Account | None:
    c = schema.accounts.c
    return account_rows.one(connection, c.name == name, c.domain_id == domain_id, c.removed.is_(None))


def all_domains(connection: sa.Connection) -> list[Domain]:
    """Return every domain, removed ones included."""
    return domain_rows.all(connection)


def all_accounts(connection: sa.Connection) -> list[Account]:
    """Return every account, the system's own and removed ones included."""
    return account_rows.all(connection)


def all_users(connection: sa.Connection) -> list[User]:
    """Return every user, the system's own and removed ones included."""
    return user_rows.all(connection)


def list_accounts(connection: sa.Connection) -> list[Account]:
    """Return the accounts that are not removed, without the system's own, as in CloudStack."""
    c = schema.accounts.c
    return account_rows.all(connection, c.removed.is_(None), c.id != SYSTEM_ACCOUNT_ID)


def users_of(connection: sa.Connection, *account_ids: int) -> list[User]:
    """Return the users of accounts that are not removed."""
    c = schema.users.c
    return user_rows.all(connection, c.removed.is_(None), c.account_id.in_(account_ids))


def parents_among(connection: sa.Connection, domain_ids: Iterable[int]) -> set[int]:
    """Return which of these domains have domains beneath them."""
    c = schema.domains.c
    query = sa.select(c.parent_id).where(c.removed.is_(None), c.parent_id.in_(list(domain_ids))).distinct()
    return {number for number in connection.scalars(query) if number is not None}


def users_with_password(connection: sa.Connection) -> list[User]:
    """Return the users that are not removed and have a password, oldest first."""
    c = schema.users.c
    return user_rows.all(connection, c.removed.is_(None), c.password_hash.is_not(None))


def find_user(connection: sa.Connection, user_id: int) -> User | None:
    """Return a user by number; None when there is none, or it is removed."""
    c = schema.users.c
    return user_rows.one(connection, c.id == user_id, c.removed.is_(None))


def update_account(connection: sa.Connection, /, account_id: int, **changes: Any) -> Account:
    """Change columns of an account."""
    return account_rows.update(connection, account_id, **changes)


def update_user(connection: sa.Connection, /, user_id: int, **changes: Any) -> User:
    """Change columns of a user."""
    return user_rows.update(connection, user_id, **changes)


def is_enabled(connection: sa.Connection, user: User) -> bool:
    """Return whether neither the user nor the account is removed, disabled or locked."""
    account = account_by_id(connection, user.account_id)
    return all(each.removed is None and each.state == ENABLED for each in (user, account))


def has_administrator(connection: sa.Connection) -> bool:
    """Return whether at least one root administrator can log in whose role restricts nothing."""
    u, a = schema.users.c, schema.accounts.c
    query = sa.select(u.id).where(
        u.account_id == a.id,
        a.type == int(AccountType.ADMIN),
        a.role_id.is_(None),
        sa.and_(u.state == ENABLED, a.state == ENABLED),
        sa.and_(u.removed.is_(None), a.removed.is_(None)),
        u.password_hash.is_not(None),
    )
    return connection.execute(query.limit(1)).first() is not None


def remove_users(connection: sa.Connection, user_ids: Sequence[int]) -> None:
    """Mark users and their keys as removed."""
    user_rows.update_where(connection, schema.users.c.id.in_(user_ids), removed=now())
    c = schema.api_keys.c
    key_rows.update_where(connection, c.user_id.in_(user_ids), c.removed.is_(None), removed=now())


def api_key_of(connection: sa.Connection, user_id: int) -> ApiKey | None:
    """Return the key that has no name."""
    c = schema.api_keys.c
    return key_rows.one(connection, c.user_id == user_id, c.name.is_(None), c.removed.is_(None))


def named_keys_of(connection: sa.Connection, user_ids: Sequence[int]) -> list[ApiKey]:
    """Return the keys with a name, the oldest first."""
    c = schema.api_keys.c
    return key_rows.all(connection, c.user_id.in_(user_ids), c.name.is_not(None), c.removed.is_(None))


def add_named_key(connection: sa.Connection, /, **columns: Any) -> ApiKey:
    return key_rows.insert(connection, **columns)


def remove_key(connection: sa.Connection, key_id: int) -> None:
    key_rows.update(connection, key_id, removed=now())


def add_api_key(connection: sa.Connection, user_id: int, api_key: str, sealed_secret: bytes) -> ApiKey:
    """Give a user this key; the user's earlier one without a name ends."""
    c = schema.api_keys.c
    mine = (c.user_id == user_id, c.name.is_(None), c.removed.is_(None))
    key_rows.update_where(connection, *mine, removed=now())
    return key_rows.insert(connection, user_id=user_id, api_key=api_key, sealed_secret=sealed_secret)


def find_api_key(connection: sa.Connection, api_key: str) -> ApiKey | None:
    c = schema.api_keys.c
    return key_rows.one(connection, c.api_key == api_key, c.removed.is_(None))
