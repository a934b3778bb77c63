# SPDX-License-Identifier: Apache-2.0
"""The methods of one end, and which roles may call them on which objects."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from attrs import evolve, frozen

from systemvm.rpc.core.call import DEFAULT_DEADLINE_S, Call, Caller, Handler, Method, ObjectAccess
from systemvm.rpc.core.errors import FORBIDDEN, METHOD_NOT_FOUND, RpcError
from systemvm.rpc.core.openrpc import document

__all__ = [
    "DEFAULT_DEADLINE_S",
    "DISCOVER",
    "PING",
    "Call",
    "Caller",
    "Guard",
    "Handler",
    "Method",
    "MethodTable",
    "ObjectAccess",
    "Offer",
]

DISCOVER = "rpc.discover"
PING = "rpc.ping"  # keeps the channel alive; `ping` is the application's

MAX_DEADLINE_S = 3600.0  # no call on the channel waits longer than an hour

#: Called for every permitted call before its parameters are parsed; raises an RpcError to refuse it.
Guard = Callable[[Call, Method], None]


@frozen
class Offer:
    """A method that one part of a program adds to the table of its end; see `MethodTable.add`."""

    name: str
    handler: Handler
    params: Any
    result: Any
    summary: str
    objects: ObjectAccess | None = None
    deadline_s: float = DEFAULT_DEADLINE_S


class MethodTable:
    """The methods of one end, `rpc.discover` and `rpc.ping` among them."""

    def __init__(self, title: str, version: str) -> None:
        self.title = title
        self.version = version
        self._methods: dict[str, Method] = {}
        self.guard: Guard | None = None
        self._add_own(DISCOVER, self._discover, dict[str, Any], "Describe this end as an OpenRPC document")
        self._add_own(PING, _pong, dict[str, Any], "Show that the channel is alive")

    def __iter__(self) -> Iterator[Method]:
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
        objects: ObjectAccess | None = None,
        cancel_on_disconnect: bool = False,
    ) -> None:
        """Register `await handler(call, params)` for calls and notifications of `name`.

        `roles` may call it, on `objects`; the handler never runs for others. With
        `cancel_on_disconnect` it is cancelled when its caller's connection ends, as it is when the caller
        cancels or its deadline passes; without, it continues, so that no work is left half done.
        """
        if name in self._methods:
            raise ValueError(f"method {name!r} is registered already")
        if name.startswith("rpc."):
            raise ValueError(f"method {name!r}: names that begin with rpc. are reserved for JSON-RPC")
        if not 0 < deadline_s <= MAX_DEADLINE_S:
            raise ValueError(f"method {name!r}: deadline must be above 0 and at most {MAX_DEADLINE_S:g} s")
        self._methods[name] = Method(
            name,
            handler,
            params,
            result,
            frozenset(roles),
            summary,
            deadline_s,
            objects,
            cancel_on_disconnect,
        )

    def add_all(self, roles: frozenset[str], offers: Iterable[Offer]) -> None:
        """Register several methods that the same roles may call."""
        for each in offers:
            self.add(
                each.name,
                each.handler,
                params=each.params,
                result=each.result,
                roles=roles,
                summary=each.summary,
                deadline_s=each.deadline_s,
                objects=each.objects,
            )

    def lookup(self, call: Call, name: str) -> Method:
        """Return the method of this name.

        Raises: RpcError METHOD_NOT_FOUND, FORBIDDEN, or that of the guard.
        """
        caller = call.caller
        method = self._methods.get(name)
        if method is None:
            hint = "rpc.discover lists the methods"
            raise RpcError(METHOD_NOT_FOUND, f"no method {name[:100]}", {"hint": hint})
        if method.roles is not None and caller.role not in method.roles:
            may = ", ".join(sorted(method.roles)) or "nobody"
            raise RpcError(
                FORBIDDEN,
                f"{caller.role} is not allowed to call {name}",
                {"hint": f"call it as one of: {may}"},
            )
        if self.guard is not None and method.roles is not None:
            self.guard(call, method)
        return method

    def cancels_on_disconnect(self, name: str) -> bool:
        method = self._methods.get(name)
        return method is not None and method.cancel_on_disconnect

    async def dispatch(self, call: Call, name: str, raw_params: object) -> Any:
        """Check the call, convert its parameters, and run the handler, whose exceptions are not caught."""
        method = self.lookup(call, name)
        return await method.run(call, method.read_params(raw_params))

    def discover(self) -> dict[str, Any]:
        """Return the OpenRPC document of this table."""
        return document(self.title, self.version, list(self._methods.values()))

    def copy(self) -> MethodTable:
        """Return a table with the same entries that can be extended independently."""
        table = MethodTable(self.title, self.version)
        table.guard = self.guard
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
