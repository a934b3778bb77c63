# SPDX-License-Identifier: Apache-2.0
"""updateResourceLimit, listResourceLimits and updateResourceCount, of accounts and of domains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve

from systemvm.management.accounts import records
from systemvm.management.api.answers.resource_limits import ResourceCountAnswer, ResourceLimitAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.ownership import OWNERS, owner_of, owners_of
from systemvm.management.api.parameters import Arguments, ParameterType, optional, required
from systemvm.management.api.principal import ADMINISTRATORS, Principal
from systemvm.management.configurations.resource_limits import MOST, UNLIMITED
from systemvm.management.resource_limits import limits
from systemvm.management.resource_limits.limits import CHECKED, GIB, ZoneLimit
from systemvm.management.state import accounts, resource_counts
from systemvm.management.state import resource_limits as rows
from systemvm.management.state.accounts import ROOT_DOMAIN_ID, Account, Domain
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.resource_counts import ResourceType

INTEGER, STRING, BOOLEAN, UUID = (
    ParameterType.INTEGER,
    ParameterType.STRING,
    ParameterType.BOOLEAN,
    ParameterType.UUID,
)
_KINDS = ", ".join(f"{int(kind)}: {kind.name}" for kind in ResourceType)
_UPDATE = (
    required("resourcetype", INTEGER, _KINDS),
    optional("max", INTEGER, "MiB of memory, GiB of storage, else how many; -1, or without it: no limit"),
    optional("account", STRING, "the account; requires domainid"),
    optional("domainid", UUID, "the domain of that account; without account, the domain that is limited"),
    optional("usedefault", BOOLEAN, "true, instead of max: the default holds again"),
)
_LIST = (
    *OWNERS,
    optional("resourcetype", INTEGER, f"list only limits of this kind; {_KINDS}"),
    optional("resourcetypename", STRING, "list only limits of the kind with this name"),
)
_COUNT = (
    required("domainid", UUID, "the domain; with account, that account's"),
    optional("account", STRING, "count only what this account has"),
    optional("resourcetype", INTEGER, f"count only this kind; {_KINDS}"),
)


class ResourceLimitCommands:
    """Handlers of these commands."""

    def __init__(self, database: Database, zone_limit: ZoneLimit) -> None:
        self._database = database
        self._zone_limit = zone_limit

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "updateResourceLimit", self._update, "Sets how much an account or a domain can have.",
                ResourceLimitAnswer, "resourcelimit", ResponseShape.OBJECT, _UPDATE, ADMINISTRATORS,
                related=("listResourceLimits",),
            ),
            Command(
                "listResourceLimits", paged(self._list),
                "Lists how much accounts can have; with domainid alone, how much that domain can have.",
                ResourceLimitAnswer, "resourcelimit", ResponseShape.LIST, _LIST,
                related=("updateResourceLimit",),
            ),
            Command(
                "updateResourceCount", paged(self._count),
                "Counts what an account or a domain has. Counts are never out of date: nothing is changed.",
                ResourceCountAnswer, "resourcecount", ResponseShape.LIST, _COUNT, ADMINISTRATORS, paged=False,
                related=("listResourceLimits",),
            ),
        )  # fmt: skip

    async def _update(self, call: ApiCall) -> ResourceLimitAnswer:
        arguments = call.arguments
        kind = _kind(arguments["resourcetype"])
        most = arguments.get("max")
        if arguments.flag("usedefault"):
            if most is not None:
                raise parameter_error("max", "max and usedefault=true exclude each other", "omit one of them")
        else:
            most = UNLIMITED if most is None else most
            if not UNLIMITED <= most <= MOST:
                raise parameter_error(
                    "max",
                    "Please specify either '-1' for an infinite limit, or a limit that is at least '0'.",
                    f"the maximum is {MOST}",
                )
        if "account" not in arguments:
            return await self._database.run(_limit_domain, call, kind, most)
        return await self._database.run(self._limit_account, call, kind, most)

    def _limit_account(
        self, connection: Connection, call: ApiCall, kind: ResourceType, most: int | None
    ) -> ResourceLimitAnswer:
        account = records.require_account(connection, owner_of(connection, call).id)
        if not call.principal.is_admin and account.id == call.principal.account.id:
            raise unauthorized("domain administrators cannot change limits of their own account")
        if account.is_admin:
            raise parameter_error(
                "account",
                f"account {account.name} is an administrator's, which has no limit",
                "limit accounts of users",
            )
        if kind is ResourceType.secondary_storage:
            account = accounts.account_rows.update(connection, account.id, max_secondary_storage_gib=most)
        else:
            rows.set_of_account(connection, account.id, kind, most)
        [answer] = self._of_accounts(connection, [account], (kind,))
        return answer

    async def _list(self, call: ApiCall) -> Sequence[ResourceLimitAnswer]:
        arguments = call.arguments
        name = arguments.text("resourcetypename")
        kinds = [
            kind
            for kind in ResourceType
            if arguments.get("resourcetype", int(kind)) == int(kind)
            and (name is None or name.lower() == kind.name)
        ]
        is_of_domain = (
            "domainid" in arguments
            and call.principal.is_administrator
            and not any(other in arguments for other in ("account", "isrecursive", "listall"))
        )
        read = self._of_domain if is_of_domain else self._of_owners
        return await self._database.read(read, call, kinds)

    @staticmethod
    def _of_domain(
        connection: Connection, call: ApiCall, kinds: Sequence[ResourceType]
    ) -> list[ResourceLimitAnswer]:
        domain = _named_domain(connection, call.arguments, call.principal)
        found = _limits_of_domain(connection, domain, [kind for kind in kinds if kind in CHECKED])
        return _with_use(found, lambda kind: resource_counts.of_domain(connection, domain.path, kind))

    def _of_owners(
        self, connection: Connection, call: ApiCall, kinds: Sequence[ResourceType]
    ) -> list[ResourceLimitAnswer]:
        owners = owners_of(connection, call)
        chosen = [
            account
            for account in accounts.list_accounts(connection)
            if account.id in owners and matches_keyword(call.arguments, account.name)
        ]
        found = self._of_accounts(connection, chosen, kinds)
        if len(chosen) != 1:
            return found
        counts = resource_counts.of_accounts(connection, [chosen[0].id], kinds)[chosen[0].id]
        return _with_use(found, counts.__getitem__)

    def _of_accounts(
        self, connection: Connection, chosen: Sequence[Account], kinds: Sequence[ResourceType]
    ) -> list[ResourceLimitAnswer]:
        own = rows.of_accounts(connection, (account.id for account in chosen))
        most = limits.of_accounts(connection, chosen)
        stored = limits.secondary_storage_gib(connection, chosen, self._zone_limit)
        domains = {domain.id: domain for domain in accounts.all_domains(connection)}
        answers = []
        for account in chosen:
            for kind in kinds:
                if kind is ResourceType.secondary_storage:
                    limit = stored[account.id]
                    is_default = account.max_secondary_storage_gib is None
                else:
                    limit = _in_units_of_limits(kind, most[account.id][kind])
                    is_default = (account.id, kind) not in own
                answers.append(_limit(domains[account.domain_id], kind, limit, is_default, account.name))
        return answers

    async def _count(self, call: ApiCall) -> Sequence[ResourceCountAnswer]:
        asked = call.arguments.get("resourcetype")
        kinds = list(ResourceType) if asked is None else [_kind(asked)]
        return await self._database.read(_counts, call, kinds)


def _kind(number: int) -> ResourceType:
    try:
        return ResourceType(number)
    except ValueError:
        raise parameter_error(
            "resourcetype", f"resourcetype={number} is not limited in this release", f"send one of {_KINDS}"
        ) from None


def _limit_domain(
    connection: Connection, call: ApiCall, kind: ResourceType, most: int | None
) -> ResourceLimitAnswer:
    """Set the limit of a domain.

    Raises: ApiError 431 for a domain without a limit, and for more than the domain above it has.
    """
    domain = _named_domain(connection, call.arguments, call.principal)
    if not call.principal.is_admin and domain.id == call.principal.domain.id:
        raise unauthorized("domain administrators cannot change limits of their own domain")
    if domain.id == ROOT_DOMAIN_ID:
        raise parameter_error(
            "domainid", "domain ROOT has no limit", "send account, too, or limit another domain"
        )
    if kind is ResourceType.secondary_storage:
        raise parameter_error(
            "resourcetype",
            "resourcetype=11 is limited for accounts only in this release",
            "send account, too",
        )
    parent = accounts.domain_by_id(connection, domain.parent_id or ROOT_DOMAIN_ID)
    above = _in_units_of_limits(kind, limits.of_domain(connection, parent)[kind])
    if above != UNLIMITED and most is not None and (most == UNLIMITED or most > above):
        raise parameter_error(
            "max",
            f"Domain {parent.name} has maximum allowed resource limit {above} for {kind.name},"
            f" please specify a value less than or equal to {above}",
        )
    rows.set_of_domain(connection, domain.id, kind, most)
    [answer] = _limits_of_domain(connection, domain, (kind,))
    return answer


def _named_domain(connection: Connection, arguments: Arguments, principal: Principal) -> Domain:
    if "domainid" not in arguments:
        raise parameter_error(
            "domainid", "account and domainid are missing", "send both, or domainid for a domain"
        )
    domain = accounts.domain_by_uuid(connection, arguments["domainid"])
    if not principal.may_use_domain(domain):
        raise unauthorized(
            f"account {principal.account.name} must not use domain {domain.pretty_path}", value=domain.uuid
        )
    return domain


def _limits_of_domain(
    connection: Connection, domain: Domain, kinds: Sequence[ResourceType]
) -> list[ResourceLimitAnswer]:
    own, most = rows.of_domains(connection, (domain.id,)), limits.of_domain(connection, domain)
    return [
        _limit(domain, kind, _in_units_of_limits(kind, most[kind]), (domain.id, kind) not in own)
        for kind in kinds
    ]


def _limit(
    domain: Domain, kind: ResourceType, most: int, is_default: bool, account: str | None = None
) -> ResourceLimitAnswer:
    return ResourceLimitAnswer(
        account=account,
        domainid=domain.uuid,
        domain=domain.name,
        domainpath=domain.pretty_path,
        resourcetype=str(int(kind)),
        resourcetypename=kind.name,
        max=most,
        isdefault=is_default,
    )


def _with_use(
    answers: Sequence[ResourceLimitAnswer], count: Callable[[ResourceType], int]
) -> list[ResourceLimitAnswer]:
    return [evolve(answer, used=count(ResourceType(int(answer.resourcetype)))) for answer in answers]


def _in_units_of_limits(kind: ResourceType, most: int) -> int:
    return most // GIB if kind.is_storage and most != UNLIMITED else most


def _counts(
    connection: Connection, call: ApiCall, kinds: Sequence[ResourceType]
) -> list[ResourceCountAnswer]:
    domain = _named_domain(connection, call.arguments, call.principal)
    if "account" in call.arguments:
        account = owner_of(connection, call)
        found = resource_counts.of_accounts(connection, [account.id], kinds)[account.id]
        name = account.name
    else:
        found = {kind: resource_counts.of_domain(connection, domain.path, kind) for kind in kinds}
        name = None
    return [
        ResourceCountAnswer(
            account=name,
            domainid=domain.uuid,
            domain=domain.name,
            domainpath=domain.pretty_path,
            resourcetype=str(int(kind)),
            resourcetypename=kind.name,
            resourcecount=found[kind],
        )
        for kind in kinds
    ]
