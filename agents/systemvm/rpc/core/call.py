# SPDX-License-Identifier: Apache-2.0
"""The types that all of the channel uses: a caller, a call, its connection, and a method."""

from __future__ import annotations

import enum
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from attrs import field, frozen

from systemvm.rpc.core.deadline import Deadline
from systemvm.rpc.core.errors import FORBIDDEN, INVALID_PARAMS, RpcError, reason_text
from systemvm.wire.call_refusal import CallRefusal

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

DEFAULT_DEADLINE_S = 30.0
MAX_IN_FLIGHT = 64  # each way; notifications that are being handled have as many places of their own


def new_request_id() -> str:
    """Return a request id for a call that has none from further up."""
    return os.urandom(8).hex()


@frozen
class PeerCertificate:
    """The certificate of the other end of a connection."""

    serial: str  # hexadecimal, lower case
    not_after_s: float  # UNIX time
    authority_key_id: str = ""  # of the CA that signed it, hexadecimal


@frozen
class Caller:
    """The identity of the other end: from its certificate, or from the kernel on a UNIX socket.

    >>> Caller("s-1-VM", "ssvm"), Caller("uid:0", "operator")  # doctest: +ELLIPSIS
    (Caller(name='s-1-VM', role='ssvm'), Caller(name='uid:0', role='operator'))
    """

    name: str
    role: str
    certificate: PeerCertificate | None = field(default=None, eq=False, repr=False)


class Connection(Protocol):
    """The other end, for handlers that call it back; implemented by `peer.Peer`."""

    caller: Caller

    @property
    def closed(self) -> bool: ...

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        request_id: str | None = None,
    ) -> Any: ...

    def notify(self, method: str, params: Any = None, *, replaces: str | None = None) -> None: ...

    def close(self, why: str) -> None: ...

    def when_closed(self) -> Deferred[str]: ...


@frozen
class Call:
    """A call without its parameters; `peer` is None over HTTP."""

    caller: Caller
    request_id: str
    peer: Connection | None
    deadline: Deadline | None = field(default=None, eq=False, repr=False)

    def remaining_s(self, at_most_s: float) -> float:
        """Return how long a handler can wait for its own calls: at most until its caller's deadline."""
        return at_most_s if self.deadline is None else min(at_most_s, self.deadline.remaining_s)


Handler = Callable[[Call, Any], Awaitable[Any]]

#: Gets the call and the `job` of the query (None without one), yields values that msgspec can encode, and
#: returns when the job has ended; it raises an RpcError to refuse. It is closed when the reader disconnects.
EventSource = Callable[[Call, str | None], AsyncIterator[Any]]


@frozen
class ObjectAccess:
    """Which objects a caller can name in the parameters of a method that its role may call.

    `owns(call, params)` returns whether the caller owns them; it returns True for objects that do not exist,
    which the handler reports. `text` describes the rule for people (`rpc.discover`).
    `reason` is the stable code in the data of the FORBIDDEN error.
    """

    text: str
    owns: Callable[[Call, Any], Awaitable[bool]]
    reason: enum.Enum = CallRefusal.NOT_YOURS

    async def require(self, call: Call, name: str, params: Any) -> None:
        """Check the right of a caller to the objects of a call.

        Raises: RpcError FORBIDDEN unless the caller owns the objects.
        """
        if not await self.owns(call, params):
            data = {"reason": reason_text(self.reason), "hint": f"open to {call.caller.role}: {self.text}"}
            raise RpcError(
                FORBIDDEN, f"{call.caller.name} is not allowed to call {name} on that object", data
            )


@frozen
class Method:
    """One entry of a method table; without `roles` any connected caller may call it."""

    name: str
    handler: Handler
    params: Any  # a type, or None for a method without parameters
    result: Any  # a type, or None
    roles: frozenset[str] | None
    summary: str
    deadline_s: float
    objects: ObjectAccess | None = None  # None: it names no object, or its roles may name all
    cancel_on_disconnect: bool = False  # it changes nothing, or its work continues without it

    def read_params(self, raw: object) -> Any:
        """Convert the parameters of a message to the declared type.

        Raises: RpcError INVALID_PARAMS with the reason.
        """
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

    async def run(self, call: Call, params: Any) -> Any:
        """Check the right to the objects, then run the handler."""
        if self.objects is not None:
            await self.objects.require(call, self.name, params)
        return await self.handler(call, params)

    def _bad_params(self, hint: str) -> RpcError:
        return RpcError(INVALID_PARAMS, f"invalid parameters of {self.name}", {"hint": hint})
