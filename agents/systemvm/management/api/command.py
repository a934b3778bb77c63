# SPDX-License-Identifier: Apache-2.0
"""A command of the API as data, and the table of all of them.

HTTP, JSON-RPC and listApis are three readings of this one table; nothing about a command is said
anywhere else.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.paging import PAGING, page_window
from systemvm.management.api.parameters import Arguments, Parameter, read_arguments
from systemvm.management.api.principal import ANY_ACCOUNT, Principal
from systemvm.management.state.status import AccountType


class ResponseShape(enum.Enum):
    """How a command's result is laid out in its answer."""

    LIST = "list"  # {"count": n, "<object>": [...]}
    OBJECT = "object"  # {"<object>": {...}}
    BARE = "bare"  # the keys of the object themselves
    ASYNC = "async"  # {"jobid": ..., "id"?: ...}, the result comes with queryAsyncJobResult


@frozen
class ApiCall:
    """One call of one command: who, with what, from where."""

    principal: Principal
    arguments: Arguments
    client_address: str
    request_id: str


@frozen
class StartedJob:
    """What an asynchronous command answers at once."""

    jobid: str
    id: str | None = None  # of the thing being made, for commands that create one


@frozen
class ResultPage:
    """One page of a list, and how many rows there are in all."""

    rows: Sequence[Any]
    count: int


Handler = Callable[[ApiCall], Awaitable[Any]]


@frozen
class Command:
    """A command: `handler` answers a Page, an answer object or Started, as `shape` says."""

    name: str
    handler: Handler = field(repr=False)
    description: str
    answer: type  # the attrs class of the object in the result
    object_name: str = ""
    shape: ResponseShape = ResponseShape.OBJECT
    parameters: tuple[Parameter, ...] = ()
    roles: frozenset[AccountType] = ANY_ACCOUNT
    paged: bool = True  # of lists: whether callers may ask for a page and search by keyword
    related: tuple[str, ...] = ()
    deadline_s: float = 60.0

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        return (
            self.parameters + PAGING if self.shape is ResponseShape.LIST and self.paged else self.parameters
        )

    @property
    def is_async(self) -> bool:
        return self.shape is ResponseShape.ASYNC

    @property
    def response_name(self) -> str:
        return f"{self.name.lower()}response"

    async def run(
        self, principal: Principal, raw: Mapping[str, Any], client_address: str, request_id: str
    ) -> Any:
        """Check the role, type the parameters, and call the handler; ApiError for what is refused."""
        if principal.account_type not in self.roles:
            raise ApiError(
                ErrorCode.UNSUPPORTED,
                f"The given command '{self.name}' either does not exist, is not available for user.",
                "log in as an administrator to use it",
            )
        arguments = read_arguments(self.all_parameters, raw, self.name)
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

    def find(self, name: str) -> Command:
        """The command of that name; ApiError 432 with the right spelling when only the case differs."""
        command = self._commands.get(name)
        if command is not None:
            return command
        for known in self._commands:
            if known.lower() == name.lower():
                hint = f"command names are case-sensitive: {known}"
                break
        else:
            hint = "listApis names the commands of this release"
        raise ApiError(ErrorCode.UNSUPPORTED, f"Unknown API command: {name[:64]}", hint)


def paged(select: Callable[[ApiCall], Awaitable[Sequence[Any]]]) -> Handler:
    """A handler of a list command from one that answers all rows: applies page and pagesize."""

    @functools.wraps(select)
    async def handler(call: ApiCall) -> ResultPage:
        window = page_window(call.arguments)
        rows = await select(call)
        return ResultPage(rows[window], len(rows))

    return handler


def matches_keyword(arguments: Arguments, *texts: str | None) -> bool:
    """CloudStack's keyword: a part of the name, whatever the case."""
    keyword = arguments.text("keyword")
    return keyword is None or any(text is not None and keyword.lower() in text.lower() for text in texts)
