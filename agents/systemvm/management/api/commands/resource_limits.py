# SPDX-License-Identifier: Apache-2.0
"""updateResourceLimit and listResourceLimits, for secondary storage: nothing else is limited here."""

from __future__ import annotations

from collections.abc import Callable

from systemvm.management.accounts import records
from systemvm.management.api.answers.resource_limits import ResourceLimitAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.ownership import OWNERS, owner_of, owners_of
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.state import accounts, zones
from systemvm.management.state.accounts import Account
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.storage_quota import UNLIMITED_GIB, limit_gib

#: CloudStack's number and name of the resource (Resource.ResourceType).
SECONDARY_STORAGE, NAME = 11, "secondary_storage"
#: Far above what any store has, and far below what the database counts in bytes.
MAX_GIB = 1 << 32
#: The limit that a zone's file gives to each account, by the zone's name.
ZoneLimit = Callable[[str], int | None]

INTEGER, STRING, BOOLEAN = ParameterType.INTEGER, ParameterType.STRING, ParameterType.BOOLEAN
_UPDATE = (
    required("resourcetype", INTEGER, "11: secondary storage, the only one that is limited"),
    optional("max", INTEGER, "GiB in each zone; -1, or without it: no limit"),
    required("account", STRING, "the account; requires domainid"),
    optional("domainid", ParameterType.UUID, "the domain of that account"),
    optional("usedefault", BOOLEAN, "true, instead of max: the limit of the zone's file holds again"),
)
_LIST = (
    *OWNERS,
    optional("resourcetype", INTEGER, "list only limits of this type; there are some of 11 only"),
    optional("resourcetypename", STRING, "list only limits with this name: secondary_storage"),
)


class ResourceLimitCommands:
    """Handlers of both commands."""

    def __init__(self, database: Database, zone_limit: ZoneLimit) -> None:
        self._database = database
        self._zone_limit = zone_limit

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "updateResourceLimit", self._update, "Sets how much secondary storage an account can use.",
                ResourceLimitAnswer, "resourcelimit", ResponseShape.OBJECT, _UPDATE, ADMIN_ONLY,
                related=("listResourceLimits",),
            ),
            Command(
                "listResourceLimits", paged(self._list), "Lists how much secondary storage accounts can use.",
                ResourceLimitAnswer, "resourcelimit", ResponseShape.LIST, _LIST,
                related=("updateResourceLimit",),
            ),
        )  # fmt: skip

    async def _update(self, call: ApiCall) -> ResourceLimitAnswer:
        arguments = call.arguments
        if arguments["resourcetype"] != SECONDARY_STORAGE:
            raise parameter_error(
                f"resourcetype={arguments['resourcetype']} is not limited in this release",
                f"send {SECONDARY_STORAGE} for secondary storage",
            )
        most_gib = arguments.get("max")
        if arguments.flag("usedefault"):
            if most_gib is not None:
                raise parameter_error("max and usedefault=true exclude each other", "omit one of them")
        else:
            most_gib = UNLIMITED_GIB if most_gib is None else most_gib
            if not UNLIMITED_GIB <= most_gib <= MAX_GIB:
                raise parameter_error(
                    "Please specify either '-1' for an infinite limit, or a limit that is at least '0'.",
                    f"the maximum is {MAX_GIB} GiB",
                )
        return await self._database.run(self._set, call, most_gib)

    def _set(self, connection: Connection, call: ApiCall, most_gib: int | None) -> ResourceLimitAnswer:
        account = records.require_account(connection, owner_of(connection, call).id)
        if account.is_admin:
            raise parameter_error(
                f"account {account.name} is an administrator's, which has no limit",
                "limit accounts of users",
            )
        changed = accounts.account_rows.update(connection, account.id, max_secondary_storage_gib=most_gib)
        return self._answer(connection, changed)

    async def _list(self, call: ApiCall) -> list[ResourceLimitAnswer]:
        arguments = call.arguments
        wanted_type = arguments.get("resourcetype", SECONDARY_STORAGE)
        wanted_name = arguments.get("resourcetypename", NAME)
        if wanted_type != SECONDARY_STORAGE or wanted_name.lower() != NAME:
            return []
        return await self._database.read(self._limits, call)

    def _limits(self, connection: Connection, call: ApiCall) -> list[ResourceLimitAnswer]:
        owners = owners_of(connection, call)
        return [
            self._answer(connection, account)
            for account in accounts.list_accounts(connection)
            if account.id in owners and matches_keyword(call.arguments, account.name)
        ]

    def _answer(self, connection: Connection, account: Account) -> ResourceLimitAnswer:
        domain = accounts.domain_by_id(connection, account.domain_id)
        limits = [
            limit_gib(account, self._zone_limit(zone.name)) for zone in zones.list_zones(connection)
        ] or [limit_gib(account, None)]
        known = [limit for limit in limits if limit is not None]
        return ResourceLimitAnswer(
            account=account.name,
            domainid=domain.uuid,
            domain=domain.name,
            domainpath=domain.pretty_path,
            resourcetype=str(SECONDARY_STORAGE),
            resourcetypename=NAME,
            max=min(known, default=UNLIMITED_GIB),
            isdefault=account.max_secondary_storage_gib is None,
        )
