# SPDX-License-Identifier: Apache-2.0
"""Domains, accounts, users and their API keys."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import AccountType

#: The account that system VMs belong to, as in CloudStack: `template/tmpl/1/<id>`.
SYSTEM_ACCOUNT_ID = 1
ROOT_DOMAIN_ID = 1


@frozen
class Domain:
    id: int
    uuid: str
    name: str
    path: str
    parent_id: int | None


@frozen
class Account:
    id: int
    uuid: str
    name: str
    type: int = field(converter=AccountType)
    domain_id: int
    state: str

    @property
    def is_admin(self) -> bool:
        return self.type == AccountType.ADMIN


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
    state: str
    created: datetime


@frozen
class ApiKey:
    id: int
    user_id: int
    api_key: str
    sealed_secret: bytes = field(repr=False)


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


def is_empty(connection: sa.Connection) -> bool:
    """True before the first start made the first accounts."""
    return account_rows.one(connection) is None


def create_domain(connection: sa.Connection, name: str, path: str, parent_id: int | None = None) -> Domain:
    return domain_rows.insert(connection, name=name, path=path, parent_id=parent_id)


def create_account(
    connection: sa.Connection, name: str, account_type: AccountType, domain_id: int
) -> Account:
    return account_rows.insert(connection, name=name, type=int(account_type), domain_id=domain_id)


def create_user(
    connection: sa.Connection, username: str, account: Account, password_hash: str | None
) -> User:
    return user_rows.insert(
        connection,
        username=username,
        account_id=account.id,
        domain_id=account.domain_id,
        password_hash=password_hash,
    )


def domain_by_path(connection: sa.Connection, path: str) -> Domain | None:
    """A domain by `/`, `ROOT`, `/a/b` or `a/b`; the empty path is the root, as in CloudStack's login."""
    wanted = "/" + path.strip("/")
    wanted = "/" if wanted.upper() == "/ROOT" else wanted
    return domain_rows.one(connection, schema.domains.c.path == wanted, schema.domains.c.removed.is_(None))


def user_by_name(connection: sa.Connection, username: str, domain_id: int = ROOT_DOMAIN_ID) -> User | None:
    c = schema.users.c
    return user_rows.one(connection, c.username == username, c.domain_id == domain_id, c.removed.is_(None))


def add_api_key(connection: sa.Connection, user_id: int, api_key: str, sealed_secret: bytes) -> ApiKey:
    """Give a user this key; the keys it had before end here."""
    c = schema.api_keys.c
    key_rows.update_where(connection, c.user_id == user_id, c.removed.is_(None), removed=now())
    return key_rows.insert(connection, user_id=user_id, api_key=api_key, sealed_secret=sealed_secret)


def find_api_key(connection: sa.Connection, api_key: str) -> ApiKey | None:
    c = schema.api_keys.c
    return key_rows.one(connection, c.api_key == api_key, c.removed.is_(None))
