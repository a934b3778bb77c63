# SPDX-License-Identifier: Apache-2.0
"""Changes of accounts and users, by administrators and by users themselves.

A user or account that is disabled or deleted loses its logins, keys and consoles at once, because each call
checks the states again. What takes longer, machines and templates, is done by jobs that can run again from
their start.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.logger import Logger

from systemvm.management.accounts import records
from systemvm.management.accounts.errors import AccountError
from systemvm.management.accounts.records import NewUser, RevokedUsers
from systemvm.management.jobs.runner import Begins, at_once
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts, instances
from systemvm.management.state import templates as template_rows
from systemvm.management.state import volumes as volume_rows
from systemvm.management.state.accounts import Account, ApiKey, User
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AccountType
from systemvm.management.templates.service import TemplateInUseError

KEY_BYTES = 48
#: The source that passwords of new users are hashed for (see `PasswordService`).
ADMINISTRATORS = "administrators"
#: How many machines of an account are stopped or destroyed at the same time.
CONCURRENCY = 8


class PasswordHashing(Protocol):
    """Hashes and verifies passwords; `source` is whose request it is, for a fair order."""

    async def hash(self, password: str, *, source: str) -> str: ...
    async def verify(
        self, stored: str | None, password: str, *, source: str, trusted: bool = False
    ) -> bool: ...


class MachineRemover(Protocol):
    """Stops and destroys an account's machines."""

    async def stop(self, vm_id: int, *, forced: bool = False) -> Instance: ...
    async def destroy(self, vm_id: int, *, expunge: bool = False) -> Instance: ...


class VolumeDeleter(Protocol):
    """Deletes an account's data volumes."""

    async def delete(self, volume_id: int) -> None: ...


class SnapshotDeleter(Protocol):
    """Deletes an account's snapshots of volumes."""

    async def delete_of_account(self, account_id: int) -> None: ...


class TemplateDeleter(Protocol):
    """Deletes an account's templates."""

    async def delete(self, template_id: int, *, forced: bool = False) -> bool: ...


class ConsoleRevoker(Protocol):
    """Ends consoles."""

    async def of_login(self, login_uuid: str) -> None: ...
    async def of_users(self, user_ids: Sequence[int]) -> None: ...


@frozen
class ApiKeyPair:
    """A user's API key with its secret, in clear text."""

    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)


class AccountService:
    """Changes accounts and users.

    Its methods raise AccountError for a request that is rejected, and NotFoundError for an account or a
    user that does not exist.
    """

    log = Logger()

    def __init__(
        self,
        database: Database,
        seal: Seal,
        passwords: PasswordHashing,
        machines: MachineRemover,
        volumes: VolumeDeleter,
        snapshots: SnapshotDeleter,
        templates: TemplateDeleter,
        consoles: ConsoleRevoker,
    ) -> None:
        self._database = database
        self._seal = seal
        self._passwords = passwords
        self._machines = machines
        self._volumes = volumes
        self._snapshots = snapshots
        self._templates = templates
        self._consoles = consoles

    # --- creating

    async def create_account(
        self,
        name: str,
        account_type: AccountType,
        domain_id: int,
        user: NewUser,
        password: str,
        role_id: int | None = None,
    ) -> Account:
        """Create an account with its first user."""
        hashed = await self._passwords.hash(password, source=ADMINISTRATORS)
        return await self._database.run(
            records.create_account, name, account_type, domain_id, user, hashed, role_id
        )

    async def create_user(self, account_id: int, user: NewUser, password: str) -> User:
        hashed = await self._passwords.hash(password, source=ADMINISTRATORS)
        return await self._database.run(records.create_user, account_id, user, hashed)

    # --- changing

    async def update_user(self, user_id: int, **columns: str | bool) -> User:
        """Change `username`, `first_name`, `last_name`, `email` or `second_factor_mandated`."""
        return await self._database.run(records.update_user, user_id, **columns)

    async def check_password(self, user: User, password: str) -> None:
        """Check a user's current password.

        Raises: AccountError, with CloudStack's message, when it is wrong.
        """
        if not await self._passwords.verify(user.password_hash, password, source=f"user {user.id}"):
            self.log.info("{username} gave a wrong current password", username=user.username)
            raise AccountError("Current password is incorrect.", parameter="currentpassword")

    async def set_password(self, user_id: int, password: str, *, keep_login: str | None = None) -> User:
        """Set a new password. Logins that used the old one end with their consoles, except `keep_login`."""
        hashed = await self._passwords.hash(password, source=f"user {user_id}")
        user, logins = await self._database.run(records.set_password, user_id, hashed, keep_login)
        for login in logins:
            await self._consoles.of_login(login)
        return user

    async def keys(self, user_id: int) -> ApiKeyPair | None:
        key = await self._database.read(accounts.api_key_of, user_id)
        return None if key is None else ApiKeyPair(key.api_key, self._seal.open(key.sealed_secret))

    async def rotate_keys(self, user_id: int) -> ApiKeyPair:
        """Create a new key pair; the one before ends at once."""
        keys = ApiKeyPair(secrets.token_urlsafe(KEY_BYTES), secrets.token_urlsafe(KEY_BYTES))
        sealed = self._seal.close(keys.secret_key)
        await self._database.run(records.rotate_key, user_id, keys.api_key, sealed)
        return keys

    async def create_key(
        self, user_id: int, name: str, expires: datetime | None, rules: list[str] | None
    ) -> tuple[ApiKey, str]:
        """Create a further key of a user; return it with its secret, which nothing shows again."""
        api_key, secret = secrets.token_urlsafe(KEY_BYTES), secrets.token_urlsafe(KEY_BYTES)
        sealed = self._seal.close(secret)
        key = await self._database.run(records.create_key, user_id, name, api_key, sealed, expires, rules)
        return key, secret

    # --- disabling and deleting

    async def enable_user(self, user_id: int) -> User:
        user, _ = await self._database.run(records.set_user_state, user_id, accounts.ENABLED)
        return user

    async def disable_user(self, user_id: int, begins: Begins = at_once) -> User:
        """End all access of a user, unless somebody has enabled the user since the job has begun."""
        user, revoked = await self._database.run(records.disable_user, user_id, begins)
        await self._revoke(revoked)
        return user

    async def lock_user(self, user_id: int) -> User:
        """End all access of a user, as disabling does."""
        user, revoked = await self._database.run(records.set_user_state, user_id, accounts.LOCKED)
        await self._revoke(revoked)
        return user

    async def delete_user(self, user_id: int) -> None:
        await self._revoke(await self._database.run(records.delete_user, user_id))

    async def enable_account(self, account_id: int) -> Account:
        account, _ = await self._database.run(records.set_account_state, account_id, accounts.ENABLED)
        return account

    async def disable_account(self, account_id: int, *, lock: bool, begins: Begins = at_once) -> Account:
        """End all access of an account's users; stop its machines, too, unless it is only locked.

        Somebody can have enabled it since the job has begun: it stays so.
        """
        state = accounts.LOCKED if lock else accounts.DISABLED
        account, revoked = await self._database.run(records.disable_account, account_id, state, begins)
        await self._revoke(revoked)
        if not account.may_run_machines:
            running = await self._database.read(instances.ids_of_account, account_id, running=True)
            await _side_by_side(self._machines.stop, running)
        return account

    async def delete_account(self, account_id: int) -> None:
        """Disable an account, delete its machines, volumes and templates, then its users and the account."""
        account = await self._database.read(accounts.account_by_id, account_id)
        if account.removed is not None:
            return
        _, revoked = await self._database.run(records.set_account_state, account_id, accounts.DISABLED)
        await self._revoke(revoked)
        # repeated, because a machine can be created if the account is enabled meanwhile
        while machines := await self._database.read(instances.ids_of_account, account_id):
            await _side_by_side(self._expunge, machines)
        await self._snapshots.delete_of_account(account_id)
        for volume in await self._database.read(volume_rows.of_account, account_id):
            await self._volumes.delete(volume.id)
        for template_id in await self._database.read(template_rows.ids_of_account, account_id):
            await self._delete_template(template_id)
        await self._database.run(records.remove_account, account_id)

    async def _expunge(self, vm_id: int) -> None:
        await self._machines.destroy(vm_id, expunge=True)

    async def _delete_template(self, template_id: int) -> None:
        try:
            await self._templates.delete(template_id, forced=True)
        except TemplateInUseError as error:
            self.log.info(
                "a template of a deleted account is kept for an administrator to delete: {why}",
                why=error.message,
            )

    async def _revoke(self, revoked: RevokedUsers) -> None:
        if revoked.user_ids:
            await self._consoles.of_users(revoked.user_ids)


async def _side_by_side(work: Callable[[int], Awaitable[Any]], vm_ids: Iterable[int]) -> None:
    """Do `work` to each machine, several at a time; raise the first error when all have ended."""
    limit = DeferredSemaphore(CONCURRENCY)

    def one(vm_id: int) -> Deferred[Any]:
        async def run() -> None:
            await work(vm_id)

        return limit.run(lambda: Deferred.fromCoroutine(run()))

    errors: list[Exception] = []

    def note(failure: Any) -> None:
        errors.append(failure.value)

    await gatherResults([one(vm_id).addErrback(note) for vm_id in vm_ids])
    if errors:
        raise errors[0]
