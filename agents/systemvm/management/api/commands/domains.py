# SPDX-License-Identifier: Apache-2.0
"""createDomain, updateDomain, deleteDomain and listDomains."""

from __future__ import annotations

from typing import Any

from systemvm.management.accounts import domains as changes
from systemvm.management.accounts.service import AccountService
from systemvm.management.api.account_answers import domain_answers
from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.accounts import DomainAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage, StartedJob
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.owner_names import read_names
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMINISTRATORS, Principal
from systemvm.management.api.rights import Rights
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import account_list, accounts, domains
from systemvm.management.state.account_list import DomainFilter
from systemvm.management.state.accounts import Domain
from systemvm.management.state.database import Connection, Database

STRING, UUID, BOOLEAN = ParameterType.STRING, ParameterType.UUID, ParameterType.BOOLEAN
_ID = required("id", UUID, "the domain")


class DomainCommands:
    """Handlers of these commands. Domain administrators change what is beneath their own domain."""

    def __init__(self, database: Database, service: AccountService, jobs: JobRunner, rights: Rights) -> None:
        self._database = database
        self._service = service
        self._jobs = jobs
        self._rights = rights
        jobs.register("deleteDomain", self._run_delete, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        name, related = required("name", STRING, "name of the domain, without a slash"), ("listDomains",)
        return (
            Command(
                "createDomain", self._create, "Creates a domain.", DomainAnswer, "domain",
                parameters=(
                    name, optional("parentdomainid", UUID, "the one above it; the caller's by default"),
                ),
                roles=ADMINISTRATORS, related=related,
            ),
            Command(
                "updateDomain", self._update, "Renames a domain.", DomainAnswer, "domain",
                parameters=(_ID, optional("name", STRING, "the new name")),
                roles=ADMINISTRATORS, related=related,
            ),
            Command(
                "deleteDomain", self._delete, "Deletes a domain.", SuccessAnswer, "", ResponseShape.ASYNC,
                (
                    _ID,
                    optional(
                        "cleanup", BOOLEAN,
                        "true: delete its accounts with all they own, and the domains beneath it, too",
                    ),
                ),
                ADMINISTRATORS, related=related,
            ),
            Command(
                "listDomains", self._list,
                "Lists domains: administrators get their own and those beneath it, users their own.",
                DomainAnswer, "domain", ResponseShape.LIST,
                (
                    optional("id", UUID, "list only the one with this id"),
                    optional("name", STRING, "list only the one with this name"),
                    optional("level", ParameterType.INTEGER, "list only those of this level"),
                    optional("listall", BOOLEAN, "accepted, but without effect: all are listed"),
                ),
                kept=True, sortable=tuple(account_list.DOMAIN_SORT_KEYS),
            ),
            Command(
                "listDomainChildren", self._children, "Lists the domains beneath one.",
                DomainAnswer, "domain", ResponseShape.LIST,
                (
                    optional("id", UUID, "the one above them; the caller's by default"),
                    optional("name", STRING, "list only those with this name"),
                    optional("isrecursive", BOOLEAN, "true: at any depth; false: only directly beneath it"),
                    optional("listall", BOOLEAN, "accepted, but without effect: all are listed"),
                ),
                ADMINISTRATORS, kept=True, related=related,
            ),
        )  # fmt: skip

    async def _create(self, call: ApiCall) -> DomainAnswer:
        parent_id = await self._database.read(_parent_id, call)
        created = await self._database.run(
            changes.create, call.arguments["name"], parent_id, call.principal.user.id
        )
        return await self._answer(created)

    async def _update(self, call: ApiCall) -> DomainAnswer:
        domain = await self._database.read(_beneath, call)
        if "name" in call.arguments:
            domain = await self._database.run(
                changes.rename, domain.id, call.arguments["name"], call.principal.user.id
            )
        return await self._answer(domain)

    async def _delete(self, call: ApiCall) -> StartedJob:
        domain, cleanup = await self._database.read(_beneath, call), call.arguments.flag("cleanup")
        if cleanup:
            await self._database.read(_check_may_delete_accounts, call.principal, domain, self._rights)
        else:
            await self._database.read(changes.check_unused, domain, with_domains=True)
        values = {"id": domain.id, "cleanup": cleanup}
        return await start_job(self._jobs, call, "deleteDomain", values, about="Domain", uuid=domain.uuid)

    async def _run_delete(self, running: RunningJob) -> dict[str, Any]:
        job = running.job
        domain_id: int = job.arguments["id"]
        if job.arguments["cleanup"]:
            # read each time: an account can be created meanwhile, and the path become another domain's
            while (account_id := await self._database.read(_first_account, domain_id)) is not None:
                await self._service.delete_account(account_id)
        await self._database.run(changes.remove, domain_id, job.user_id)
        return dict(plain(SuccessAnswer(success=True)))

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)

    async def _children(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select_children, call)

    async def _answer(self, domain: Domain) -> DomainAnswer:
        [answer] = await self._database.read(domain_answers, [domain])
        return answer


def _parent_id(connection: Connection, call: ApiCall) -> int:
    """Return the domain above a new one.

    Raises: ApiError 401 for one that the caller is no administrator of.
    """
    uuid, principal = call.arguments.text("parentdomainid"), call.principal
    parent = principal.domain if uuid is None else accounts.domain_by_uuid(connection, uuid)
    if not principal.may_use_domain(parent):
        raise unauthorized(
            f"account {principal.account.name} must not use domain {parent.pretty_path}", value=parent.uuid
        )
    return parent.id


def _beneath(connection: Connection, call: ApiCall) -> Domain:
    """Return the domain that a call changes.

    Raises: ApiError 401 unless it is beneath the caller's own, or the caller is a root administrator.
    """
    principal = call.principal
    domain = accounts.domain_by_uuid(connection, call.arguments["id"])
    if not (principal.is_admin or domain.is_beneath(principal.domain)):
        raise unauthorized(
            f"account {principal.account.name} must not change domain {domain.pretty_path}", value=domain.uuid
        )
    return changes.require(connection, domain.id)


def _first_account(connection: Connection, domain_id: int) -> int | None:
    """Return an account of a domain that is there, or of one beneath it."""
    if not domains.is_present(connection, domain_id):
        return None
    domain = accounts.domain_by_id(connection, domain_id)
    return next(iter(domains.accounts_beneath(connection, domain.path)), None)


def _check_may_delete_accounts(
    connection: Connection, principal: Principal, domain: Domain, rights: Rights
) -> None:
    """Check that the caller could delete each account in a domain by itself, too.

    Raises: ApiError 401 when one is a root administrator's and the caller is not, or permits more.
    """
    found = domains.accounts_beneath(connection, domain.path)
    if not all(principal.may_use(account_id) for account_id in found):
        raise unauthorized(f"account {principal.account.name} must not delete accounts of administrators")
    for account_id in found:
        rights.check_account(connection, principal, accounts.account_by_id(connection, account_id))


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    """Return the rows of a page of listDomains.

    Raises: ApiError 431 for a page that does not exist.
    """
    arguments, principal = call.arguments, call.principal
    known = read_names(connection).domains.values()
    which = DomainFilter(
        ids=None
        if principal.is_admin
        else frozenset(one.id for one in known if principal.may_use_domain(one)),
        uuid=arguments.text("id"),
        name=arguments.text("name"),
        level=arguments.get("level"),
        keyword=arguments.text("keyword"),
    )
    found, count = account_list.domains_page(connection, which, page_window(arguments), sort_order(arguments))
    return ResultPage(domain_answers(connection, found), count)


def _select_children(connection: Connection, call: ApiCall) -> ResultPage:
    """Return the rows of a page of listDomainChildren.

    Raises: ApiError 401 for a domain that the caller must not name.
    """
    arguments, principal = call.arguments, call.principal
    top = principal.domain if "id" not in arguments else accounts.domain_by_uuid(connection, arguments["id"])
    if not principal.may_use_domain(top):
        raise unauthorized(
            f"account {principal.account.name} must not use domain {top.pretty_path}", value=top.uuid
        )
    is_recursive = arguments.flag("isrecursive")
    which = DomainFilter(
        name=arguments.text("name"),
        parent_id=None if is_recursive else top.id,
        beneath=top.path if is_recursive else None,
        keyword=arguments.text("keyword"),
    )
    found, count = account_list.domains_page(connection, which, page_window(arguments))
    return ResultPage(domain_answers(connection, found), count)
