# SPDX-License-Identifier: Apache-2.0
"""create-, update-, disable-, enable-, lock- and deleteUser, getUser, listUsers, and the keys of a user."""

from __future__ import annotations

from functools import partial
from typing import Any

from systemvm.management.accounts import records
from systemvm.management.accounts.service import AccountService
from systemvm.management.api.account_answers import user_answers
from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.accounts import UserAnswer, UserKeysAnswer
from systemvm.management.api.command import (
    ApiCall,
    Command,
    ResponseShape,
    ResultPage,
    StartedJob,
)
from systemvm.management.api.commands.accounts import (
    BOOLEAN,
    INTEGER,
    NEW_USER,
    STRING,
    UUID,
    new_user,
    own_domain_id,
)
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.owner_names import read_names
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import Parameter, only, optional, required
from systemvm.management.api.principal import ADMINISTRATORS, ANY_ACCOUNT, Principal
from systemvm.management.api.rights import Rights
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import account_list, accounts
from systemvm.management.state.account_list import UserFilter
from systemvm.management.state.accounts import User
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.rows import NotFoundError

_ID = required("id", UUID, "the user")
#: Parameters of updateUser and the columns that they change.
_COLUMNS = {
    "username": "username",
    "firstname": "first_name",
    "lastname": "last_name",
    "email": "email",
    "mandate2fa": "second_factor_mandated",
}
_UPDATE_PARAMETERS = (
    _ID,
    optional("username", STRING, "new name; for administrators only"),
    optional("firstname", STRING, "first name"),
    optional("lastname", STRING, "last name"),
    optional("email", STRING, "email address"),
    optional("password", STRING, "new password"),
    optional("currentpassword", STRING, "current password, required to change the own password"),
    optional(
        "mandate2fa",
        BOOLEAN,
        "whether the user must set up a second factor, once enable.user.2fa is true; for administrators, who"
        " cannot set false for themselves",
    ),
    only("timezone", STRING, "time zone of the user", "UTC", "Etc/UTC", "GMT"),
)
_LIST_PARAMETERS = (
    optional("id", UUID, "list only the one with this id"),
    optional("username", STRING, "list only the one with this name"),
    optional("account", STRING, "list only those of this account"),
    optional("accounttype", INTEGER, "list only those of accounts of this type"),
    optional("state", STRING, "list only those in this state"),
    optional("domainid", UUID, "list only those of this domain"),
    optional("listall", BOOLEAN, "list those of all accounts; for administrators only"),
    optional("isrecursive", BOOLEAN, "with domainid: include its subdomains"),
)


class UserCommands:
    """Handlers of these commands. Users can change themselves, administrators everyone in their domains."""

    def __init__(self, database: Database, service: AccountService, jobs: JobRunner, rights: Rights) -> None:
        self._database = database
        self._rights = rights
        self._service = service
        self._jobs = jobs
        jobs.register("disableUser", self._run_disable, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (*self._changes(), *self._states(), *self._reads(), *self._keys())

    def _changes(self) -> tuple[Command, ...]:
        account = required("account", STRING, "name of the account of the new user")
        domain = optional("domainid", UUID, "UUID of the account's domain; the caller's domain by default")
        return (
            self._command(
                "createUser", self._create, "Creates a user of an account.", *NEW_USER, account, domain
            ),
            self._command(
                "updateUser",
                self._update,
                "Changes a user, for example the password.",
                *_UPDATE_PARAMETERS,
                everyone=True,
            ),
        )

    def _states(self) -> tuple[Command, ...]:
        return (
            self._command("enableUser", self._enable, "Enables a user.", _ID),
            self._command(
                "lockUser", self._lock, "Locks a user and ends the user's logins, keys and consoles.", _ID
            ),
            Command(
                "disableUser",
                self._disable,
                "Disables a user and ends the user's logins, keys and consoles.",
                UserAnswer,
                "user",
                ResponseShape.ASYNC,
                (_ID,),
                ADMINISTRATORS,
            ),
            Command(
                "deleteUser",
                self._delete,
                "Deletes a user.",
                SuccessAnswer,
                shape=ResponseShape.BARE,
                parameters=(_ID,),
                roles=ADMINISTRATORS,
            ),
        )

    def _reads(self) -> tuple[Command, ...]:
        return (
            self._command(
                "getUser", self._get, "Finds a user by API key.", required("userapikey", STRING, "the key")
            ),
            Command(
                "listUsers",
                self._list,
                "Lists users: those of the caller's account, or of all accounts for administrators.",
                UserAnswer,
                "user",
                ResponseShape.LIST,
                _LIST_PARAMETERS,
                kept=True,
                sortable=tuple(account_list.USER_SORT_KEYS),
            ),
        )

    def _keys(self) -> tuple[Command, ...]:
        return (
            Command(
                "getUserKeys",
                self._get_keys,
                "Returns a user's API key and secret key.",
                UserKeysAnswer,
                "userkeys",
                parameters=(_ID,),
            ),
            Command(
                "registerUserKeys",
                self._register_keys,
                "Creates a new API key and secret key for a user; the old ones end at once.",
                UserKeysAnswer,
                "userkeys",
                parameters=(_ID,),
            ),
        )

    def _command(
        self, name: str, handler: Any, description: str, *parameters: Parameter, everyone: bool = False
    ) -> Command:
        roles = ANY_ACCOUNT if everyone else ADMINISTRATORS
        return Command(name, handler, description, UserAnswer, "user", parameters=parameters, roles=roles)

    # --- for administrators

    async def _create(self, call: ApiCall) -> UserAnswer:
        arguments = call.arguments
        account = await self._database.read(_account, call, self._rights)
        user = await self._service.create_user(account, new_user(arguments), arguments["password"])
        return await self._answer(user)

    async def _enable(self, call: ApiCall) -> UserAnswer:
        user = await self._own_or_administered(call)
        return await self._answer(await self._service.enable_user(user.id))

    async def _lock(self, call: ApiCall) -> UserAnswer:
        user = await self._own_or_administered(call)
        return await self._answer(await self._service.lock_user(user.id))

    async def _disable(self, call: ApiCall) -> StartedJob:
        user = await self._own_or_administered(call)
        return await start_job(self._jobs, call, "disableUser", {"id": user.id}, about="User", uuid=user.uuid)

    async def _run_disable(self, running: RunningJob) -> dict[str, Any]:
        begins = partial(running.begin, text="Ending the user's logins and consoles")
        user = await self._service.disable_user(running.job.arguments["id"], begins)
        return {"user": plain(await self._answer(user))}

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        user = await self._own_or_administered(call)
        await self._service.delete_user(user.id)
        return SuccessAnswer(success=True)

    async def _get(self, call: ApiCall) -> UserAnswer:
        user = await self._database.read(_by_api_key, call.arguments["userapikey"])
        if not _may_administer(call.principal, user):
            raise unauthorized(f"user {call.principal.user.username} must not see this user")
        return await self._answer(user)

    # --- for all users

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)

    async def _update(self, call: ApiCall) -> UserAnswer:
        arguments, principal = call.arguments, call.principal
        user = await self._own_or_administered(call)
        if "username" in arguments and not principal.is_administrator:
            raise unauthorized("only administrators can change a user name", parameter="username")
        if "mandate2fa" in arguments and not principal.is_administrator:
            raise unauthorized("only administrators can mandate a second factor", parameter="mandate2fa")
        if (
            arguments.get("mandate2fa") is False
            and user.id == principal.user.id
            and not principal.is_operator
        ):
            raise unauthorized(
                "mandate2fa: only another administrator can lift the own mandate", parameter="mandate2fa"
            )
        if "password" in arguments:
            await self._check_current_password(call, user)
        columns = {column: arguments[name] for name, column in _COLUMNS.items() if name in arguments}
        if columns:
            user = await self._service.update_user(user.id, **columns)
        if "password" in arguments:
            keep = principal.login_uuid if user.id == principal.user.id else None
            user = await self._service.set_password(user.id, arguments["password"], keep_login=keep)
        return await self._answer(user)

    async def _check_current_password(self, call: ApiCall, user: User) -> None:
        """Check whether the current password is required, and right.

        This is CloudStack's rule, but stricter: in a login session an administrator's own password requires
        the current one, too, so that an unattended page cannot be used to take the account over.

        Raises: ApiError 431 without it, AccountError when it is wrong.
        """
        principal = call.principal
        is_own = user.id == principal.user.id
        if principal.is_administrator and not is_own:
            return
        if principal.is_admin and principal.login_uuid is None:
            return
        current = call.arguments.text("currentpassword")
        if current is None:
            raise parameter_error(
                "currentpassword",
                "To set a new password the current password must be provided.",
                "send currentpassword",
            )
        await self._service.check_password(user, current)

    async def _get_keys(self, call: ApiCall) -> UserKeysAnswer:
        user = await self._own_or_administered(call)
        keys = await self._service.keys(user.id)
        return UserKeysAnswer(apikey=keys.api_key, secretkey=keys.secret_key) if keys else UserKeysAnswer()

    async def _register_keys(self, call: ApiCall) -> UserKeysAnswer:
        user = await self._own_or_administered(call)
        keys = await self._service.rotate_keys(user.id)
        return UserKeysAnswer(apikey=keys.api_key, secretkey=keys.secret_key)

    async def _own_or_administered(self, call: ApiCall) -> User:
        """Return a user that the caller can change: the own one, not another one of the same account."""
        uuid = call.arguments["id"]
        return await self._database.read(changeable_user, call.principal, uuid, self._rights)

    async def _answer(self, user: User) -> UserAnswer:
        [answer] = await self._database.read(user_answers, [user])
        return answer


def changeable_user(connection: Connection, principal: Principal, uuid: str, rights: Rights) -> User:
    """Return a user that the caller can change.

    Raises: NotFoundError when there is none, ApiError 401 for another one.
    """
    user = _user(connection, uuid)
    if not _may_administer(principal, user):
        raise unauthorized(f"user {principal.user.username} must not change this user", value=uuid)
    rights.check_account(connection, principal, accounts.account_by_id(connection, user.account_id))
    return user


def _may_administer(principal: Principal, user: User) -> bool:
    if principal.is_administrator:
        return principal.may_use(user.account_id)
    return user.id == principal.user.id


def _user(connection: Connection, uuid: str) -> User:
    return records.require_user(connection, accounts.user_by_uuid(connection, uuid).id)


def _account(connection: Connection, call: ApiCall, rights: Rights) -> int:
    name, principal = call.arguments["account"], call.principal
    account = accounts.account_by_name(connection, name, own_domain_id(connection, call))
    if account is None:
        raise NotFoundError(f"there is no account named {name}", parameter="account")
    if not principal.may_use(account.id):
        raise unauthorized(
            f"account {principal.account.name} must not create users of account {name}", parameter="account"
        )
    rights.check_account(connection, principal, account)
    return account.id


def _by_api_key(connection: Connection, api_key: str) -> User:
    key = accounts.find_api_key(connection, api_key)
    if key is None:
        raise NotFoundError("there is no user with this API key", parameter="userapikey")
    return accounts.user_by_id(connection, key.user_id)


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    """Return the rows of a page of listUsers.

    Raises: ApiError 431 for a page that does not exist.
    """
    arguments, principal = call.arguments, call.principal
    named = any(key in arguments for key in ("account", "domainid", "id"))
    everyones = arguments.flag("listall") or named
    which = UserFilter(
        account_ids=principal.account_ids if everyones else frozenset({principal.account.id}),
        uuid=arguments.text("id"),
        username=arguments.text("username"),
        account_name=arguments.text("account"),
        account_type=arguments.get("accounttype"),
        state=arguments.text("state"),
        domain_ids=read_names(connection).numbers_of_domains(
            arguments.text("domainid"), recursive=arguments.flag("isrecursive")
        ),
        keyword=arguments.text("keyword"),
    )
    window, order = page_window(arguments), sort_order(arguments)
    found, count = account_list.users_page(connection, which, window, order)
    return ResultPage(user_answers(connection, found), count)
