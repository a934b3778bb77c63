# SPDX-License-Identifier: Apache-2.0
"""A command of the API as data, and the table of all of them.

HTTP, JSON-RPC and listApis all read this table. Nothing about a command is declared anywhere else.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from systemvm.management.api.errors import ApiError, ErrorCode, second_factor_required
from systemvm.management.api.paging import PAGING, page_window, sort_order, sorting
from systemvm.management.api.parameters import (
    NO_REASONS,
    Arguments,
    Parameter,
    ParameterType,
    optional,
    read_arguments,
)
from systemvm.management.api.principal import ANY_ACCOUNT, Principal
from systemvm.management.api.refused_parameter import named_parameter
from systemvm.management.state.status import AccountType


class ResponseShape(enum.Enum):
    """The layout of a command's result in its response."""

    LIST = "list"  # {"count": n, "<object>": [...]}
    OBJECT = "object"  # {"<object>": {...}}
    BARE = "bare"  # the keys of the object themselves
    ASYNC = "async"  # {"jobid": ..., "id"?: ...}, the result comes with queryAsyncJobResult


@frozen
class ApiCall:
    """One call of a command: its user, its arguments, the client's address and the request id."""

    principal: Principal
    arguments: Arguments
    client_address: str
    request_id: str


@frozen
class StartedJob:
    """The response of an asynchronous command."""

    jobid: str
    id: str | None = None  # of the object that is being created, if the command creates one


@frozen
class ResultPage:
    """One page of a list, and how many rows there are in all."""

    rows: Sequence[Any]
    count: int
    json: Sequence[Any] = ()  # the rows as `msgspec.Raw`, when they are written already


Handler = Callable[[ApiCall], Awaitable[Any]]

#: CloudMonkey sends it to every list that it completes a parameter from, and to listApis.
LISTALL = optional(
    "listall", ParameterType.BOOLEAN, "accepted, but without effect: these have no owner, and all are listed"
)


@frozen
class Command:
    """A command. Its `handler` returns a ResultPage, an answer object or a StartedJob, as `shape` says."""

    name: str
    handler: Handler = field(repr=False)
    description: str
    answer: type  # the attrs class of the object in the result
    object_name: str = ""
    shape: ResponseShape = ResponseShape.OBJECT
    parameters: tuple[Parameter, ...] = ()
    roles: frozenset[AccountType] = ANY_ACCOUNT
    paged: bool = True  # of lists: whether they take page, pagesize and keyword
    sortable: tuple[str, ...] = ()  # of lists: keys of the rows that `sortby` takes
    related: tuple[str, ...] = ()
    deadline_s: float = 60.0
    wrapper: str = ""  # of the response, if it is not the command's name in lower case
    #: Whether its answer depends on nothing but the database, the caller and the arguments: such an answer
    #: is kept until a table that it was read from changes. Times must not be compared with the clock in it.
    kept: bool = False
    #: Whether a session can call it whose second factor is not verified yet.
    before_verification: bool = False
    #: Parameters of CloudStack's that are refused, with the reason.
    refused: Mapping[str, str] = field(default=NO_REASONS, repr=False)

    @functools.cached_property
    def all_parameters(self) -> tuple[Parameter, ...]:
        return (
            *self.parameters,
            *((LISTALL,) if self._is_list_without_owners else ()),
            *(PAGING if self.shape is ResponseShape.LIST and self.paged else ()),
            *sorting(self.sortable),
        )

    @property
    def _is_list_without_owners(self) -> bool:
        return self.name.startswith("list") and all(one.name != LISTALL.name for one in self.parameters)

    @property
    def is_async(self) -> bool:
        return self.shape is ResponseShape.ASYNC

    @property
    def response_name(self) -> str:
        return self.wrapper or f"{self.name.lower()}response"

    async def run(
        self, principal: Principal, raw: Mapping[str, Any], client_address: str, request_id: str
    ) -> Any:
        """Check the second factor and the role, parse the parameters and call the handler.

        Raises: ApiError when one of these is rejected, and whatever the handler raises.
        """
        if not principal.is_verified and not self.before_verification:
            raise second_factor_required()
        # no role keeps a session from its verification
        if principal.is_verified and not principal.can_call(self.name, self.roles):
            raise ApiError(
                ErrorCode.UNSUPPORTED,
                f"The given command '{self.name}' either does not exist, is not available for user.",
                "log in as someone whose account and role permit it",
            )
        arguments = read_arguments(self.all_parameters, raw, self.name, self.refused)
        with named_parameter(self.all_parameters, arguments):
            return await self.handler(ApiCall(principal, arguments, client_address, request_id))


class CommandTable:
    """All commands, by name."""

    def __init__(self, commands: Iterable[Command] = ()) -> None:
        self._commands: dict[str, Command] = {}
        self.add(*commands)

    def add(self, *commands: Command) -> None:
        for command in commands:
            if command.name in self._commands:
                raise ValueError(f"command {command.name} is in the table twice")
            self._commands[command.name] = command

    def __iter__(self) -> Iterator[Command]:
        return iter(sorted(self._commands.values(), key=lambda command: command.name.lower()))

    def __contains__(self, name: str) -> bool:
        return name in self._commands

    def parameters_of(self, name: str) -> tuple[Parameter, ...]:
        """Return the declared parameters of a command; none when there is no such command."""
        return self._commands[name].all_parameters if name in self._commands else ()

    def find(self, name: str) -> Command:
        """Return the command with this name.

        Raises: ApiError 432 when there is none; its hint has the right spelling if only the case differs.
        """
        command = self._commands.get(name)
        if command is not None:
            return command
        for known in self._commands:
            if known.lower() == name.lower():
                hint = f"write {known}: command names are case-sensitive"
                break
        else:
            hint = "call listApis for the commands of this release"
        raise ApiError(ErrorCode.UNSUPPORTED, f"Unknown API command: {name[:64]}", hint)


def paged(
    select: Callable[[ApiCall], Awaitable[Sequence[Any]]],
    *,
    sorts_itself: bool = False,
    orders: Mapping[str, Callable[[Any], Any]] | None = None,
) -> Handler:
    """Return a handler that applies sortby, page and pagesize to one that returns all rows.

    One that sorts itself has a `sortby` of CloudStack's, which names no key of its rows. `orders` has, by
    key, what its values are ordered by when that is not their text.
    """

    @functools.wraps(select)
    async def handler(call: ApiCall) -> ResultPage:
        window = page_window(call.arguments)
        order = None if sorts_itself else sort_order(call.arguments)
        rows = await select(call)
        if order is not None:
            value_of = (orders or {}).get(order.by, _as_text)
            rows = sorted(
                rows, key=lambda row: _sort_key(getattr(row, order.by), value_of), reverse=order.descending
            )
        return ResultPage(rows[window], len(rows))

    return handler


def _sort_key(value: Any, value_of: Callable[[Any], Any]) -> tuple[bool, Any]:
    """Return what a row is ordered by: as in SQL, a missing value is before all others."""
    return value is not None, None if value is None else value_of(value)


def _as_text(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def matches_keyword(arguments: Arguments, *texts: str | None) -> bool:
    """Return whether one of the texts contains the call's `keyword`, whatever its case."""
    keyword = arguments.text("keyword")
    return keyword is None or any(text is not None and keyword.lower() in text.lower() for text in texts)
