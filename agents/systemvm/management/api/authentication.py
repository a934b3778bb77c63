# SPDX-License-Identifier: Apache-2.0
"""Authentication of API calls: by password, by API key, or as an operator of the host."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import argon2
from attrs import evolve

from systemvm.management.api.passwords import PasswordService
from systemvm.management.api.principal import Principal
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts, domains, login_sources, roles
from systemvm.management.state.accounts import ApiKey
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.roles import Rules
from systemvm.management.state.rows import NotFoundError

#: What `principal_of` reads: its results are kept until one of these changes.
PRINCIPAL_TABLES = ("users", "accounts", "domains", "role_permissions")


class Authenticator:
    """Finds the user of a call. A wrong password takes as long as an unknown user name."""

    def __init__(
        self,
        database: Database,
        seal: Seal,
        hasher: argon2.PasswordHasher | None = None,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._database = database
        self._clock = clock
        self._seal = seal
        self.passwords = PasswordService(hasher)

    async def by_password(
        self, username: str, password: str, domain_path: str, *, source: str = "", trusted: bool = False
    ) -> Principal | None:
        """Return the user with this name and password, or None.

        Raises: ApiError 503 when too many passwords, of `source` or of all, wait to be verified.
        """
        principal = await self._database.read(_by_username, username, domain_path)
        stored = principal.user.password_hash if principal else None
        right = await self.passwords.verify(stored, password, source=source, trusted=trusted)
        return principal if right else None

    async def domain_path(self, uuid: str) -> str:
        """Return the path of a domain; for an unknown one its UUID, which is not the path of any domain."""
        try:
            return (await self._database.read(accounts.domain_by_uuid, uuid)).path
        except NotFoundError:
            return uuid

    async def trusts(self, username: str, domain_path: str, source: str) -> bool:
        """Return whether this user has logged in from this source before."""
        return await self._database.read(_trusts, username, domain_path, source)

    async def trust(self, principal: Principal, source: str) -> None:
        """Record that this user has logged in from this source."""
        await self._database.run(login_sources.remember, principal.user.id, source)

    async def by_api_key(self, api_key: str) -> tuple[Principal, str] | None:
        """Return the key's user, and the secret that verifies signatures; None if unknown or expired."""
        found = await self._database.read_kept(_by_api_key, ("api_keys", *PRINCIPAL_TABLES), api_key)
        if found is None:
            return None
        principal, key = found
        if key.expires is not None and self._clock() >= key.expires:
            return None
        return principal, self._seal.open(key.sealed_secret)

    async def operator(self) -> Principal:
        """Return the user that the host's operators act as: the first administrator with a password.

        One whose role restricts anything is none.

        Raises: LookupError when there is none.
        """
        principal = await self._database.read(_first_administrator)
        if principal is None:
            raise LookupError("there is no administrator in the database")
        return evolve(principal, is_operator=True)


def principal_of(connection: Connection, user: accounts.User) -> Principal | None:
    """Return a user with account and domain; None when user or account is disabled."""
    if not accounts.is_enabled(connection, user):
        return None
    account = accounts.account_by_id(connection, user.account_id)
    domain = accounts.domain_by_id(connection, user.domain_id)
    return Principal(
        user,
        account,
        domain,
        beneath=domains.reach_of(connection, account, domain),
        rules=roles.rules_of(connection, account.role_id),
    )


def _by_username(connection: Connection, username: str, domain_path: str) -> Principal | None:
    domain = accounts.domain_by_path(connection, domain_path)
    user = accounts.user_by_name(connection, username, domain.id) if domain else None
    return principal_of(connection, user) if user else None


def _trusts(connection: Connection, username: str, domain_path: str, source: str) -> bool:
    principal = _by_username(connection, username, domain_path)
    return principal is not None and login_sources.is_known(connection, principal.user.id, source)


def _by_api_key(connection: Connection, api_key: str) -> tuple[Principal, ApiKey] | None:
    key = accounts.find_api_key(connection, api_key)
    principal = principal_of(connection, accounts.user_by_id(connection, key.user_id)) if key else None
    if key is None or principal is None:
        return None
    if key.rules is not None:
        principal = evolve(principal, key_rules=Rules(tuple((rule, True) for rule in key.rules)))
    return principal, key


def _first_administrator(connection: Connection) -> Principal | None:
    users = accounts.users_with_password(connection)
    principals = (principal_of(connection, user) for user in users)
    return next(
        (
            principal
            for principal in principals
            if principal and principal.is_admin and principal.rules is None
        ),
        None,
    )
