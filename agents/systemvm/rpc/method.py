# SPDX-License-Identifier: Apache-2.0
"""Which methods an end answers: names, typed parameters, results, deadlines, and who may call them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec
from attrs import evolve, frozen

from systemvm.rpc.errors import FORBIDDEN, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError

if TYPE_CHECKING:
    from systemvm.rpc.peer import Peer

DISCOVER = "rpc.discover"
PING = "rpc.ping"  # the channel's own sign of life, apart from the application's `ping`
DEFAULT_DEADLINE_S = 30.0


@frozen
class Caller:
    """Who is at the other end: from its certificate, or from the kernel on a UNIX socket.

    >>> Caller("s-1-VM", "ssvm"), Caller("uid:0", "operator")  # doctest: +ELLIPSIS
    (Caller(name='s-1-VM', role='ssvm'), Caller(name='uid:0', role='operator'))
    """

    name: str
    role: str


@frozen
class Call:
    """What a handler knows of the call besides its parameters; `peer` is None over HTTP."""

    caller: Caller
    request_id: str
    peer: Peer | None


Handler = Callable[[Call, Any], Awaitable[Any]]


@frozen
class Method:
    """One entry of the table; `roles` None means anybody who got as far as connecting."""

    name: str
    handler: Handler
    params: Any  # a type, or None for a method without parameters
    result: Any  # a type, or None
    roles: frozenset[str] | None
    summary: str
    deadline_s: float

    def read_params(self, raw: object) -> Any:
        """Convert what the wire brought to the declared type; RpcError -32602 says what does not fit."""
        if isinstance(raw, list):
            raise self._bad_params("parameters go by name, in an object")
        if self.params is None:
            if raw:
                raise self._bad_params("this method takes none")
            return None
        try:
            return msgspec.convert({} if raw is None else raw, type=self.params, strict=True)
        except msgspec.ValidationError as error:
            raise self._bad_params(str(error)) from None

    def _bad_params(self, hint: str) -> RpcError:
        return RpcError(INVALID_PARAMS, f"bad parameters for {self.name}", {"hint": hint})


class MethodTable:
    """The methods of one end; `rpc.discover` and `rpc.ping` are always there."""

    def __init__(self, title: str, version: str) -> None:
        self.title = title
        self.version = version
        self._methods: dict[str, Method] = {}
        self._add_own(DISCOVER, self._discover, dict[str, Any], "Describe this end as an OpenRPC document")
        self._add_own(PING, _pong, dict[str, Any], "Show that the channel is alive")

    def __iter__(self) -> Any:
        return iter(self._methods.values())

    def add(
        self,
        name: str,
        handler: Handler,
        *,
        params: Any,
        result: Any,
        roles: frozenset[str],
        summary: str = "",
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> None:
        """Answer `name` with `await handler(call, params)`; notifications come to the same handlers."""
        if name in self._methods:
            raise ValueError(f"method {name!r} is there already")
        if name.startswith("rpc."):
            raise ValueError(f"method {name!r}: JSON-RPC keeps names that begin with rpc. to itself")
        self._methods[name] = Method(name, handler, params, result, frozenset(roles), summary, deadline_s)

    def lookup(self, caller: Caller, name: str) -> Method:
        """The method that `caller` may call by this name; RpcError -32601 or FORBIDDEN."""
        method = self._methods.get(name)
        if method is None:
            hint = "rpc.discover lists the methods"
            raise RpcError(METHOD_NOT_FOUND, f"no method {name[:100]}", {"hint": hint})
        if method.roles is not None and caller.role not in method.roles:
            may = ", ".join(sorted(method.roles)) or "nobody"
            raise RpcError(FORBIDDEN, f"{caller.role} may not call {name}", {"hint": f"open to: {may}"})
        return method

    async def dispatch(self, call: Call, name: str, raw_params: object) -> Any:
        """Check, convert, and run the handler; whatever it raises comes through."""
        method = self.lookup(call.caller, name)
        return await method.handler(call, method.read_params(raw_params))

    def discover(self) -> dict[str, Any]:
        """The OpenRPC document of this table."""
        from systemvm.rpc.openrpc import document

        return document(self.title, self.version, list(self._methods.values()))

    def copy(self) -> MethodTable:
        """A table with the same entries that can be extended apart from this one."""
        table = MethodTable(self.title, self.version)
        for method in self._methods.values():
            if not method.name.startswith("rpc."):
                table._methods[method.name] = evolve(method)
        return table

    async def _discover(self, call: Call, params: None) -> dict[str, Any]:
        return self.discover()

    def _add_own(
        self, name: str, handler: Callable[[Call, None], Coroutine[Any, Any, Any]], result: Any, summary: str
    ) -> None:
        self._methods[name] = Method(name, handler, None, result, None, summary, DEFAULT_DEADLINE_S)


async def _pong(call: Call, params: None) -> dict[str, Any]:
    return {}
