# SPDX-License-Identifier: Apache-2.0
"""listAccountUsage: what accounts have stored, downloaded and used of consoles."""

from __future__ import annotations

from systemvm.management.api.answers.usage import AccountUsageAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.state import usage
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.usage import AccountUsage

_SORTABLE = ("account", "domain", "storedbytes", "servedbytes", "consoleminutes")


class UsageCommands:
    """The handler of this command."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listAccountUsage", paged(self._list), "Lists what accounts use: the caller's by default.",
                AccountUsageAnswer, "accountusage", ResponseShape.LIST, OWNERS,
                sortable=_SORTABLE, related=("listAccounts",),
            ),
        )  # fmt: skip

    async def _list(self, call: ApiCall) -> list[AccountUsageAnswer]:
        return await self._database.read(_select, call)


def _select(connection: Connection, call: ApiCall) -> list[AccountUsageAnswer]:
    names = read_names(connection)
    found = usage.usage(connection, owners_of(connection, call).account_ids)
    answers = [_answer(each, names) for each in found]
    return [answer for answer in answers if matches_keyword(call.arguments, answer.account)]


def _answer(each: AccountUsage, names: OwnerNames) -> AccountUsageAnswer:
    account = names.accounts[each.account_id]
    domain = names.domains[account.domain_id]
    return AccountUsageAnswer(
        account=account.name,
        accountid=account.uuid,
        domainid=domain.uuid,
        domain=domain.name,
        storedbytes=each.stored_bytes,
        servedbytes=each.served_bytes,
        consoleminutes=each.console_seconds // 60,
    )
