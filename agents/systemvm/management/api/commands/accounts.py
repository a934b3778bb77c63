# SPDX-License-Identifier: Apache-2.0
"""create-, update-, disable-, enable- and deleteAccount, listAccounts."""

from __future__ import annotations

from functools import partial
from typing import Any

from systemvm.management.accounts import records, roles
from systemvm.management.accounts.records import NewUser
from systemvm.management.accounts.service import AccountService
from systemvm.management.api.account_answers import account_answers
from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.accounts import AccountAnswer
from systemvm.management.api.command import (
    ApiCall,
    Command,
    ResponseShape,
    ResultPage,
    StartedJob,
)
from systemvm.management.api.commands.roles import find_role
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.owner_names import read_names
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import Arguments, Parameter, ParameterType, only, optional, required
from systemvm.management.api.principal import ADMINISTRATORS, Principal
from systemvm.management.api.resource_use import DETAILS, wants_use
from systemvm.management.api.rights import Rights
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.resource_limits.limits import ZoneLimit
from systemvm.management.state import account_list, accounts
from systemvm.management.state.account_list import AccountFilter
from systemvm.management.state.accounts import ROOT_DOMAIN_ID, Account
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.roles import AccountRole
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import AccountType

STRING, UUID, BOOLEAN, INTEGER = (
    ParameterType.STRING,
    ParameterType.UUID,
    ParameterType.BOOLEAN,
    ParameterType.INTEGER,
)

#: Parameters of a new user, for createAccount and createUser.
NEW_USER = (
    required("username", STRING, "name that the user logs in with"),
    required("password", STRING, "password in clear text; use HTTPS except on the host itself"),
    required("firstname", STRING, "first name"),
    required("lastname", STRING, "last name"),
    required("email", STRING, "email address"),
    only("timezone", STRING, "time zone of the user", "UTC", "Etc/UTC", "GMT"),
)
_WHICH = (
    optional("id", UUID, "UUID of the account; or give account and domainid"),
    optional("account", STRING, "name of the account, instead of id"),
    optional("domainid", UUID, "UUID of the domain of account; the caller's domain by default"),
)
_LIST = (
    optional("id", UUID, "list only the one with this id"),
    optional("name", STRING, "list only the one with this name"),
    optional("accounttype", INTEGER, "list only those of this type"),
    optional("state", STRING, "list only those in this state"),
    optional("domainid", UUID, "list only those of this domain"),
    optional("listall", BOOLEAN, "accepted, but without effect: administrators always get all of theirs"),
    optional("isrecursive", BOOLEAN, "with domainid: include its subdomains"),
    DETAILS,
)


def new_user(arguments: Arguments) -> NewUser:
    return NewUser(arguments["username"], arguments["firstname"], arguments["lastname"], arguments["email"])


class AccountCommands:
    """Handlers of these commands."""

    def __init__(
        self,
        database: Database,
        service: AccountService,
        jobs: JobRunner,
        rights: Rights,
        zone_limit: ZoneLimit,
    ) -> None:
        self._database = database
        self._zone_limit = zone_limit
        self._rights = rights
        self._service = service
        self._jobs = jobs
        jobs.register("disableAccount", self._run_disable, resumes=True)
        jobs.register("deleteAccount", self._run_delete, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        name = optional("account", STRING, "name of the account; the user's name by default")
        kind = optional(
            "accounttype", INTEGER, "0 for users, 1 for root, 2 for domain administrators; 0 by default"
        )
        domain = optional("domainid", UUID, "UUID of the domain; the caller's domain by default")
        lock = required("lock", BOOLEAN, "true: keep its VMs running; false: stop them")
        return (
            self._command(
                "createAccount", self._create, "Creates an account with its first user.",
                *NEW_USER, name, kind, domain,
                optional("roleid", UUID, "its role, instead of accounttype; see listRoles"),
            ),
            self._command(
                "updateAccount", self._update, "Changes the name or the role of an account.",
                *_WHICH, optional("newname", STRING, "the new name"),
                optional("roleid", UUID, "its new role, of the same type; see listRoles"),
            ),
            self._command("enableAccount", self._enable, "Enables an account.", *_WHICH),
            Command(
                "disableAccount",
                self._disable,
                "Disables or locks an account and ends its logins, keys and consoles.",
                AccountAnswer,
                "account",
                ResponseShape.ASYNC,
                (*_WHICH, lock),
                ADMINISTRATORS,
            ),
            Command(
                "deleteAccount",
                self._delete,
                "Deletes an account with its users, machines and templates.",
                SuccessAnswer,
                shape=ResponseShape.ASYNC,
                parameters=(required("id", UUID, "the account"),),
                roles=ADMINISTRATORS,
            ),
            Command(
                "listAccounts",
                self._list,
                "Lists accounts with their users; a user gets only the own account.",
                AccountAnswer,
                "account",
                ResponseShape.LIST,
                _LIST,
                sortable=tuple(account_list.ACCOUNT_SORT_KEYS),
                kept=True,
            ),
        )  # fmt: skip

    def _command(self, name: str, handler: Any, description: str, *parameters: Parameter) -> Command:
        return Command(
            name, handler, description, AccountAnswer, "account", parameters=parameters, roles=ADMINISTRATORS
        )

    async def _create(self, call: ApiCall) -> AccountAnswer:
        arguments = call.arguments
        account_type, role_id = await self._database.read(self._role, call)
        domain_id = await self._database.read(own_domain_id, call)
        if account_type == AccountType.ADMIN:
            _check_may_create_administrator(call.principal, domain_id)
        user = new_user(arguments)
        name = arguments.get("account", user.username)
        account = await self._service.create_account(
            name, account_type, domain_id, user, arguments["password"], role_id
        )
        return await self._answer(account)

    async def _update(self, call: ApiCall) -> AccountAnswer:
        account = await self._which(call)
        return await self._answer(await self._database.run(self._change, call, account.id))

    def _change(self, connection: Connection, call: ApiCall, account_id: int) -> Account:
        arguments = call.arguments
        account = records.require_account(connection, account_id)
        if "roleid" in arguments:
            role = find_role(connection, arguments["roleid"])
            role_id = role.made.id if role.made else None
            if role.type != account.type:
                raise parameter_error(
                    "roleid",
                    f"roleid is not a role for accounts of the type of {account.name}",
                    "choose one of the same type; see listRoles",
                )
            self._check_can_give(connection, call.principal, role.type, role.made)
            account = roles.assign(connection, account.id, role_id)
        if "newname" in arguments:
            account = records.rename_account(connection, account.id, arguments["newname"])
        return account

    def _role(self, connection: Connection, call: ApiCall) -> tuple[AccountType, int | None]:
        """Return the type and the role of a new account; no role is the one of its type.

        Raises: ApiError 431 for a type that is not here, 401 for a role that permits more than the caller's.
        """
        arguments = call.arguments
        number = arguments.get("accounttype", int(AccountType.USER))
        if number not in tuple(AccountType):
            raise parameter_error(
                "accounttype",
                f"accounttype={number} is not supported in this release",
                "send 0 for users, 1 for root administrators or 2 for domain administrators",
            )
        account_type, made = AccountType(number), None
        if "roleid" in arguments:
            role = find_role(connection, arguments["roleid"])
            if "accounttype" in arguments and role.type != account_type:
                raise parameter_error(
                    "accounttype", f"accounttype={number} is not the type of the role", "omit accounttype"
                )
            account_type, made = role.type, role.made
        self._check_can_give(connection, call.principal, account_type, made)
        return account_type, made.id if made else None

    def _check_can_give(
        self,
        connection: Connection,
        principal: Principal,
        account_type: AccountType,
        made: AccountRole | None,
    ) -> None:
        if made is not None and not made.is_public and not principal.is_admin:
            raise unauthorized("only root administrators can give this role", parameter="roleid")
        self._rights.check_role(connection, principal, account_type, made.id if made else None)

    async def _enable(self, call: ApiCall) -> AccountAnswer:
        account = await self._which(call)
        return await self._answer(await self._service.enable_account(account.id))

    async def _disable(self, call: ApiCall) -> StartedJob:
        account = await self._which(call)
        return await self._start(call, "disableAccount", account, lock=call.arguments.flag("lock"))

    async def _delete(self, call: ApiCall) -> StartedJob:
        return await self._start(call, "deleteAccount", await self._which(call))

    async def _start(self, call: ApiCall, command: str, account: Account, **arguments: Any) -> StartedJob:
        values = {"id": account.id} | arguments
        return await start_job(self._jobs, call, command, values, about="Account", uuid=account.uuid)

    async def _run_disable(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        begins = partial(running.begin, text="Ending its logins and consoles, and stopping its machines")
        account = await self._service.disable_account(arguments["id"], lock=arguments["lock"], begins=begins)
        return {"account": plain(await self._answer(account))}

    async def _run_delete(self, running: RunningJob) -> dict[str, Any]:
        await self._service.delete_account(running.job.arguments["id"])
        return dict(plain(SuccessAnswer(success=True)))

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call, self._zone_limit)

    async def _which(self, call: ApiCall) -> Account:
        return await self._database.read(_find, call, self._rights)

    async def _answer(self, account: Account) -> AccountAnswer:
        [answer] = await self._database.read(account_answers, [account], self._zone_limit)
        return answer


def _select(connection: Connection, call: ApiCall, zone_limit: ZoneLimit) -> ResultPage:
    """Return the rows of a page of listAccounts.

    Raises: ApiError 431 for a page that does not exist.
    """
    arguments, principal = call.arguments, call.principal
    which = AccountFilter(
        ids=principal.account_ids,
        uuid=arguments.text("id"),
        name=arguments.text("name"),
        type=arguments.get("accounttype"),
        state=arguments.text("state"),
        domain_ids=read_names(connection).numbers_of_domains(
            arguments.text("domainid"), recursive=arguments.flag("isrecursive")
        ),
        keyword=arguments.text("keyword"),
    )
    found, count = account_list.accounts_page(
        connection, which, page_window(arguments), sort_order(arguments)
    )
    counted_with = zone_limit if wants_use(arguments) else None
    return ResultPage(account_answers(connection, found, counted_with), count)


def own_domain_id(connection: Connection, call: ApiCall) -> int:
    """Return the number of the domain that a call names, by default the caller's.

    Raises: ApiError 401 for one that the caller is no administrator of.
    """
    uuid, principal = call.arguments.text("domainid"), call.principal
    if uuid is None:
        return principal.domain.id
    domain = accounts.domain_by_uuid(connection, uuid)
    if not principal.may_use_domain(domain):
        raise unauthorized(
            f"account {principal.account.name} must not use domain {domain.pretty_path}", value=uuid
        )
    return domain.id


def _check_may_create_administrator(principal: Principal, domain_id: int) -> None:
    """Root administrators are in the root domain only, so that no domain administrator has access to one."""
    if not principal.is_admin:
        raise unauthorized("only root administrators can create root administrators")
    if domain_id != ROOT_DOMAIN_ID:
        raise parameter_error(
            "accounttype",
            "accounttype=1 is not possible in this domain: root administrators are in domain ROOT",
            "omit domainid, or send accounttype=2 for a domain administrator",
        )


def _find(connection: Connection, call: ApiCall, rights: Rights) -> Account:
    """Return an account that the caller administers, by id, or by name and domain.

    Raises: NotFoundError when there is none, AccountError for the system account, ApiError 431 without
    either, 401 for another one.
    """
    uuid, name = call.arguments.text("id"), call.arguments.text("account")
    if uuid is not None:
        found = accounts.account_by_uuid(connection, uuid)
    elif name is not None:
        by_name = accounts.account_by_name(connection, name, own_domain_id(connection, call))
        if by_name is None:
            raise NotFoundError(f"there is no account named {name}", parameter="account")
        found = by_name
    else:
        raise parameter_error("id", "parameter id is missing", "send id, or account and domainid")
    if not call.principal.may_use(found.id):
        raise unauthorized(
            f"account {call.principal.account.name} must not change this account", value=found.uuid
        )
    rights.check_account(connection, call.principal, found)
    return records.require_account(connection, found.id)
