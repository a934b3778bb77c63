# SPDX-License-Identifier: Apache-2.0
"""listConsoleSessions and endConsoleSession.

As in CloudStack, sessions belong to the account of the user who created the link, and only those that are
open are listed by default (ListConsoleSessionsCmd.java). Ending one is an addition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.console_sessions import ConsoleSessionAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import owners_of
from systemvm.management.api.paging import page_window
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.periods import end_of, first_moment
from systemvm.management.consoles.live_sessions import ConsoleSessionQueries, ListedSession
from systemvm.management.state.console_session_list import ConsoleSessionFilter

_LIST, _END = "listConsoleSessions", "endConsoleSession"


class ConsoleSessionCommands:
    """Handlers of both; `end` ends a session by its id."""

    def __init__(self, queries: ConsoleSessionQueries, end: Callable[[str], Awaitable[None]]) -> None:
        self._queries = queries
        self._end_session = end

    def commands(self) -> tuple[Command, ...]:
        identity, string, flag = ParameterType.UUID, ParameterType.STRING, ParameterType.BOOLEAN
        return (
            Command(
                _LIST,
                self._list,
                "Lists console sessions, the newest first.",
                ConsoleSessionAnswer,
                "consolesession",
                ResponseShape.LIST,
                (
                    optional("id", identity, "list only the one with this id"),
                    optional("domainid", identity, "list only those of users of this domain"),
                    optional("isrecursive", flag, "with domainid: include its subdomains"),
                    optional("accountid", identity, "list only those of users of this account"),
                    optional("userid", identity, "list only those of this user"),
                    optional("hostid", identity, "list only those of VMs on this host"),
                    optional("virtualmachineid", identity, "list only those of this VM"),
                    optional("startdate", ParameterType.DATE, "list only those since this day or time"),
                    optional("enddate", ParameterType.DATE, "list only those until the end of this day"),
                    optional(
                        "consoleendpointcreatoraddress", string, "list only links created from this address"
                    ),
                    optional("clientaddress", string, "list only those opened from this address"),
                    optional(
                        "activeonly", flag, "false: also list links that were not opened, and ended sessions"
                    ),
                    optional("acquired", flag, "with activeonly=false: list only links that were opened"),
                ),
                related=("createConsoleEndpoint", _END),
            ),
            Command(
                _END,
                self._end,
                "Ends a console session, or voids a link that was not opened.",
                SuccessAnswer,
                shape=ResponseShape.BARE,
                parameters=(required("id", identity, "the session"),),
                related=(_LIST,),
            ),
        )

    async def _list(self, call: ApiCall) -> ResultPage:
        arguments, window = call.arguments, page_window(call.arguments)
        owners = await self._queries.database.read(partial(owners_of, call=call, all_by_default=True))
        which = ConsoleSessionFilter(
            account_ids=owners.account_ids,
            uuid=arguments.text("id"),
            user_uuid=arguments.text("userid"),
            account_uuid=arguments.text("accountid"),
            vm_uuid=arguments.text("virtualmachineid"),
            host_uuid=arguments.text("hostid"),
            creator_address=arguments.text("consoleendpointcreatoraddress"),
            client_address=arguments.text("clientaddress"),
            since=first_moment(arguments["startdate"]) if "startdate" in arguments else None,
            before=end_of(arguments["enddate"]) if "enddate" in arguments else None,
            is_active=arguments.flag("activeonly", True),
            is_acquired=arguments.flag("acquired"),
            keyword=arguments.text("keyword"),
        )
        found, count = await self._queries.page(which, window)
        names = await self._queries.database.read(read_names)
        return ResultPage([_answer(each, names) for each in found], count)

    async def _end(self, call: ApiCall) -> SuccessAnswer:
        principal, session = call.principal, call.arguments["id"]
        account_ids = principal.account_ids
        if await self._queries.find_open(session, account_ids) is None:
            raise parameter_error(
                "id", f"there is no open console session {session}", f"call {_LIST} for those that are open"
            )
        await self._end_session(session)
        return SuccessAnswer(success=True)


def _answer(listed: ListedSession, names: OwnerNames) -> ConsoleSessionAnswer:
    row, vm, live = listed.row, listed.vm, listed.live
    account = names.accounts[listed.user.account_id]
    domain, host = names.domains[account.domain_id], names.host(vm.host_id)
    is_open = row.acquired is not None and row.removed is None
    return ConsoleSessionAnswer(
        id=row.uuid,
        created=row.created,
        domain=domain.name,
        domainid=domain.uuid,
        domainpath=domain.pretty_path,
        account=account.name,
        accountid=account.uuid,
        user=listed.user.username,
        userid=listed.user.uuid,
        virtualmachineid=vm.uuid,
        virtualmachinename=vm.shown_name,
        kind=row.kind.value,
        hostid=host.uuid if host else None,
        hostname=host.name if host else None,
        acquired=row.acquired,
        removed=row.removed,
        consoleendpointcreatoraddress=row.creator_address,
        clientaddress=live.client_address if live else row.client_address,
        consoleproxy=listed.proxy.instance_name if listed.proxy else None,
        connected=live.is_connected if live and is_open else None,
        idleseconds=live.idle_s if live and is_open else None,
        sentbytes=live.sent_bytes if live else row.sent_bytes,
        receivedbytes=live.received_bytes if live else row.received_bytes,
        watches=row.watches,
        closecode=row.close_code,
        closereason=row.close_reason,
    )
