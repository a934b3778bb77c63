# SPDX-License-Identifier: Apache-2.0
"""Changes of accounts and users in the database: each function is one transaction with all of its checks."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.accounts.errors import AccountError
from systemvm.management.jobs.runner import Begins
from systemvm.management.state import accounts, domains, events, guest_networks, login_sources, sessions
from systemvm.management.state.accounts import SYSTEM_ACCOUNT_ID, Account, ApiKey, User
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import AccountType

MAX_NAME_LENGTH = 255
#: Of one user, with a name.
MAX_KEYS = 50
#: Of the event when a user gets a state.
_VERBS = {accounts.ENABLED: "ENABLE", accounts.DISABLED: "DISABLE", accounts.LOCKED: "LOCK"}


@frozen
class NewUser:
    """The columns of a new user, without the password."""

    username: str
    first_name: str
    last_name: str
    email: str


@frozen
class RevokedUsers:
    """Users who lost their rights in a transaction; the caller must end their consoles."""

    user_ids: list[int]


def require_account(connection: Connection, account_id: int) -> Account:
    """Return an account that can be changed.

    Raises: NotFoundError when it was deleted, AccountError when it is the system account.
    """
    account = accounts.account_by_id(connection, account_id)
    if account.removed is not None:
        raise NotFoundError(f"account {account.name} was deleted")
    if account.id == SYSTEM_ACCOUNT_ID:
        raise AccountError(
            f"account {account.name} cannot be changed: it is the system account", parameter="id"
        )
    return account


def require_user(connection: Connection, user_id: int) -> User:
    """Return a user that can be changed.

    Raises: NotFoundError when the user was deleted, AccountError when it is of the system account.
    """
    user = accounts.user_by_id(connection, user_id)
    if user.removed is not None:
        raise NotFoundError(f"user {user.username} was deleted")
    require_account(connection, user.account_id)
    return user


def create_account(
    connection: Connection,
    name: str,
    account_type: AccountType,
    domain_id: int,
    user: NewUser,
    password_hash: str,
    role_id: int | None = None,
) -> Account:
    if not domains.is_present(connection, domain_id):  # it can have been deleted since it was found
        raise NotFoundError("domain of the new account was deleted")
    _check_account_name(connection, name, domain_id)
    account = accounts.create_account(connection, name, account_type, domain_id, role_id)
    _record(connection, account, "ACCOUNT.CREATE", "Account", account.uuid, f"account {name} is created")
    create_user(connection, account.id, user, password_hash)
    return account


def create_user(connection: Connection, account_id: int, user: NewUser, password_hash: str) -> User:
    account = require_account(connection, account_id)
    _check_username(connection, user.username, account.domain_id)
    made = accounts.create_user(
        connection,
        user.username,
        account,
        password_hash,
        first_name=user.first_name,
        last_name=user.last_name,
        email=user.email,
    )
    _record(connection, account, "USER.CREATE", "User", made.uuid, f"user {made.username} is created")
    return made


def rename_account(connection: Connection, account_id: int, name: str) -> Account:
    account = require_account(connection, account_id)
    if name != account.name:
        _check_account_name(connection, name, account.domain_id, "newname")
    renamed = accounts.update_account(connection, account_id, name=name)
    text = f"account {account.name} is named {name}"
    _record(connection, account, "ACCOUNT.UPDATE", "Account", account.uuid, text)
    return renamed


def update_user(connection: Connection, /, user_id: int, **columns: str | bool) -> User:
    user = require_user(connection, user_id)
    username = str(columns.get("username", user.username))
    if username != user.username:
        _check_username(connection, username, user.domain_id)
    record_of_user(connection, user, "USER.UPDATE", f"is changed: {', '.join(sorted(columns))}")
    return accounts.update_user(connection, user_id, **columns)


def set_password(
    connection: Connection, user_id: int, password_hash: str, keep_login: str | None
) -> tuple[User, list[str]]:
    """Set a password; return the user and the UUIDs of the logins that ended, which used the old one."""
    user = require_user(connection, user_id)
    changed = accounts.update_user(connection, user_id, password_hash=password_hash)
    record_of_user(connection, user, "USER.UPDATE", "has a new password")
    login_sources.forget(connection, user_id)  # they were trusted for knowing the old password
    return changed, sessions.end_of_users(connection, [user_id], except_uuid=keep_login)


def rotate_key(connection: Connection, user_id: int, api_key: str, sealed_secret: bytes) -> None:
    user = require_user(connection, user_id)
    accounts.add_api_key(connection, user_id, api_key, sealed_secret)
    record_of_user(connection, user, "REGISTER.USER.KEY", "has a new API key")


def create_key(
    connection: Connection,
    user_id: int,
    name: str,
    api_key: str,
    sealed_secret: bytes,
    expires: datetime | None,
    rules: list[str] | None,
) -> ApiKey:
    """Give a user a further key.

    Raises: AccountError for a name that the user's keys have, or that cannot be, and for too many keys.
    """
    user = require_user(connection, user_id)
    _check_length("name", name)
    present = accounts.named_keys_of(connection, [user_id])
    if any(each.name == name for each in present):
        raise AccountError(
            f"API key {name} of user {user.username} already exists", "choose another name", parameter="name"
        )
    if len(present) >= MAX_KEYS:
        raise AccountError(
            f"user {user.username} has too many API keys: the maximum is {MAX_KEYS}",
            "delete one of them",
            parameter="id",
        )
    key = accounts.add_named_key(
        connection,
        user_id=user_id,
        name=name,
        api_key=api_key,
        sealed_secret=sealed_secret,
        expires=expires,
        rules=rules,
    )
    record_of_user(connection, user, "REGISTER.USER.KEY", f"has the API key {name}")
    return key


def delete_key(connection: Connection, key: ApiKey) -> None:
    user = require_user(connection, key.user_id)
    accounts.remove_key(connection, key.id)
    record_of_user(connection, user, "DELETE.USER.KEY", f"has no API key {key.name} any more")


def set_user_state(connection: Connection, user_id: int, state: str) -> tuple[User, RevokedUsers]:
    user = require_user(connection, user_id)
    changed = accounts.update_user(connection, user_id, state=state)
    if user.state != state:
        record_of_user(connection, user, f"USER.{_VERBS[state]}", f"is {state}")
    return changed, _revoke(connection, [] if state == accounts.ENABLED else [user_id])


def delete_user(connection: Connection, user_id: int) -> RevokedUsers:
    user = require_user(connection, user_id)
    accounts.remove_users(connection, [user_id])
    record_of_user(connection, user, "USER.DELETE", "is deleted")
    return _revoke(connection, [user_id])


def set_account_state(connection: Connection, account_id: int, state: str) -> tuple[Account, RevokedUsers]:
    account = require_account(connection, account_id)
    changed = accounts.update_account(connection, account_id, state=state)
    if account.state != state:
        verb = "ENABLE" if state == accounts.ENABLED else "DISABLE"
        text = f"account {account.name} is {state}"
        _record(connection, account, f"ACCOUNT.{verb}", "Account", account.uuid, text)
    users = [] if state == accounts.ENABLED else accounts.users_of(connection, account_id)
    return changed, _revoke(connection, [user.id for user in users])


def disable_user(connection: Connection, user_id: int, begins: Begins) -> tuple[User, RevokedUsers]:
    """Disable a user; leave the state as it is when the job did so before."""
    state = accounts.DISABLED if begins(connection) else require_user(connection, user_id).state
    return set_user_state(connection, user_id, state)


def disable_account(
    connection: Connection, account_id: int, state: str, begins: Begins
) -> tuple[Account, RevokedUsers]:
    """Disable or lock an account; leave the state as it is when the job did so before."""
    if not begins(connection):
        state = require_account(connection, account_id).state
    return set_account_state(connection, account_id, state)


def remove_account(connection: Connection, account_id: int) -> None:
    """Mark the account and its users as removed, as the last step of a deletion; the rows stay as history."""
    account = require_account(connection, account_id)
    accounts.remove_users(connection, [user.id for user in accounts.users_of(connection, account_id)])
    guest_networks.remove_of_account(connection, account_id)
    accounts.update_account(connection, account_id, removed=now())
    text = f"account {account.name} is deleted"
    _record(connection, account, "ACCOUNT.DELETE", "Account", account.uuid, text)


def _revoke(connection: Connection, user_ids: list[int]) -> RevokedUsers:
    """End the users' logins.

    Raises: AccountError when no administrator would be left.
    """
    sessions.end_of_users(connection, user_ids)
    if user_ids and not accounts.has_administrator(connection):
        raise AccountError(
            "this is the last root administrator who can log in",
            "create or enable another one first",
            parameter="id",
        )
    return RevokedUsers(user_ids)


def _check_account_name(
    connection: Connection, name: str, domain_id: int, parameter: str = "account"
) -> None:
    _check_length(parameter, name)
    if accounts.account_by_name(connection, name, domain_id) is not None:
        raise AccountError(
            f"The specified account: {name} already exists", "choose another name", parameter=parameter
        )


def _check_username(connection: Connection, username: str, domain_id: int) -> None:
    _check_length("username", username)
    if accounts.user_by_name(connection, username, domain_id) is not None:
        raise AccountError(f"The user {username} already exists", "choose another name", parameter="username")


def _check_length(what: str, name: str) -> None:
    if not name.strip() or len(name) > MAX_NAME_LENGTH:
        raise AccountError(
            f"Invalid value for parameter {what}: it must have 1 to {MAX_NAME_LENGTH} characters",
            "choose another name",
            parameter=what,
        )


def record_of_user(connection: Connection, user: User, kind: str, text: str) -> None:
    """Record an event of a user."""
    account = accounts.account_by_id(connection, user.account_id)
    _record(connection, account, kind, "User", user.uuid, f"user {user.username} {text}")


def _record(
    connection: Connection, account: Account, kind: str, resource_type: str, uuid: str, text: str
) -> None:
    events.record(
        connection,
        kind,
        text,
        account_id=account.id,
        domain_id=account.domain_id,
        resource_type=resource_type,
        resource_uuid=uuid,
    )
