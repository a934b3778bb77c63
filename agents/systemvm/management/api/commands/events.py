# SPDX-License-Identifier: Apache-2.0
"""listEvents, archiveEvents, deleteEvents. Those of one resource are the trace of a download or a console."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.events import EventAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.owner_names import read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.periods import end_of, first_moment
from systemvm.management.state import accounts, events
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.events import EventFilter
from systemvm.management.state.listing import Order

LEVELS = ("INFO", "WARN", "ERROR")
#: How many events are archived or deleted in one transaction, and how many are found before that.
BATCH, READ = 2_000, 100_000


_WHICH = (
    optional("ids", ParameterType.LIST, "only those with these ids"),
    optional("type", ParameterType.STRING, "only those of this type"),
    optional("startdate", ParameterType.DATE, "only those at or after this day or time; requires enddate"),
    optional("enddate", ParameterType.DATE, "only those until the end of this day or time"),
)


class EventCommands:
    """Events of the caller's account; administrators get those of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listEvents",
                self._list,
                "Lists events, the newest first.",
                EventAnswer,
                "event",
                ResponseShape.LIST,
                (
                    optional(
                        "resourceid",
                        ParameterType.UUID,
                        "list only those of this template, session or system VM",
                    ),
                    optional(
                        "virtualmachineid",
                        ParameterType.UUID,
                        "list only those of this VM and of its consoles",
                    ),
                    optional(
                        "requestid",
                        ParameterType.STRING,
                        "list only those caused by the API call with this request id",
                    ),
                    optional("type", ParameterType.STRING, "list only those of this type"),
                    optional("level", ParameterType.STRING, "list only those of this level", choices=LEVELS),
                    optional("id", ParameterType.UUID, "list only the one with this id"),
                    optional(
                        "resourcetype", ParameterType.STRING, "list only those of this type of resource"
                    ),
                    optional("startdate", ParameterType.DATE, "list only those at or after this day or time"),
                    optional(
                        "enddate", ParameterType.DATE, "list only those until the end of this day or time"
                    ),
                    optional(
                        "state", ParameterType.STRING, "list only those in this state; all are Completed"
                    ),
                    optional(
                        "archived", ParameterType.BOOLEAN, "true: list archived ones; false: only others"
                    ),
                    *OWNERS,
                ),
                sortable=tuple(events.SORT_KEYS),
                kept=True,
            ),
            self._ending("archiveEvents", events.archive, "Archives events, which lists then leave out."),
            self._ending(
                "deleteEvents",
                events.delete,
                "Deletes events, permanently; listAlerts keeps alerts among them.",
            ),
        )

    def _ending(self, name: str, end: Callable[[Connection, EventFilter], int], description: str) -> Command:
        async def handler(call: ApiCall) -> SuccessAnswer:
            which = _named(call)
            if which.uuids is not None:
                await self._database.run(_end_named, end, which)
            else:
                await self._end_all(end, which)
            return SuccessAnswer(success=True)

        return Command(
            name, handler, description, SuccessAnswer, shape=ResponseShape.BARE, parameters=_WHICH,
            related=("listEvents",),
        )  # fmt: skip

    async def _end_all(self, end: Callable[[Connection, EventFilter], int], which: EventFilter) -> None:
        """Archive or delete the events that fit, of which there can be a million.

        Each batch is a transaction of its own, so that others come in between. After a failure the call is
        repeated for the rest.
        """
        last = 0
        while found := await self._database.read(events.numbers, which, last, READ):
            for first in range(0, len(found), BATCH):
                batch = tuple(found[first : first + BATCH])
                await self._database.run(end, EventFilter(ids=batch))
            if len(found) < READ:
                return  # what happens meanwhile is for the next call
            last = found[-1]

    async def _list(self, call: ApiCall) -> ResultPage:
        arguments, window = call.arguments, page_window(call.arguments)
        owners = await self._database.read(partial(owners_of, call=call, all_by_default=True))
        which = EventFilter(
            account_ids=owners.account_ids,
            uuid=arguments.text("id"),
            type=arguments.text("type"),
            level=arguments.text("level"),
            state=arguments.text("state"),
            resource_uuid=arguments.text("resourceid"),
            resource_type=arguments.text("resourcetype"),
            vm_uuid=arguments.text("virtualmachineid"),
            request_id=arguments.text("requestid"),
            archived=arguments.flag("archived"),
            since=first_moment(arguments["startdate"]) if "startdate" in arguments else None,
            before=end_of(arguments["enddate"]) if "enddate" in arguments else None,
            keyword=arguments.text("keyword"),
        )
        return await self._database.read(_read, which, window, sort_order(arguments))


def _named(call: ApiCall) -> EventFilter:
    """Return the events that a call names, among those that its caller has access to.

    Raises: ApiError 431 when it names none.
    """
    arguments = call.arguments
    if not any(name in arguments for name in ("ids", "type", "enddate")):
        raise parameter_error("ids", "either ids, type, or enddate must be specified")
    if "startdate" in arguments and "enddate" not in arguments:
        raise parameter_error("enddate", "enddate must be specified with startdate parameter")
    return EventFilter(
        account_ids=call.principal.account_ids,
        uuids=frozenset(arguments["ids"]) if "ids" in arguments else None,
        type=arguments.text("type"),
        since=first_moment(arguments["startdate"]) if "startdate" in arguments else None,
        before=end_of(arguments["enddate"]) if "enddate" in arguments else None,
    )


def _end_named(
    connection: Connection, end: Callable[[Connection, EventFilter], int], which: EventFilter
) -> None:
    """Archive or delete the events with these ids, all or none.

    Raises: ApiError 431 when there is no event with one of the ids.
    """
    count, uuids = end(connection, which), which.uuids or frozenset()
    if count != len(uuids):
        raise parameter_error(
            "ids",
            f"ids: {len(uuids) - count} of {len(uuids)} are not ids of such events",
            "call listEvents for those that there are",
        )


def _read(connection: Connection, which: EventFilter, window: slice, order: Order | None) -> ResultPage:
    names = read_names(connection)
    found, count = events.page(connection, which, window, order)
    users = accounts.users_by_id(connection, (event.user_id for event in found))
    answers = [
        EventAnswer(
            id=event.uuid,
            type=event.type,
            level=event.level,
            state=event.state,
            description=event.description,
            account=account.name if (account := names.accounts.get(event.account_id)) else None,
            domainid=domain.uuid if (domain := names.domains.get(event.domain_id)) else None,
            domain=domain.name if domain else None,
            username=user.username if (user := users.get(event.user_id or 0)) else None,
            resourceid=event.resource_uuid,
            resourcetype=event.resource_type,
            requestid=event.request_id,
            created=event.created,
            archived=event.archived,
            createdms=int(event.created.timestamp() * 1000),
        )
        for event in found
    ]
    return ResultPage(answers, count)
