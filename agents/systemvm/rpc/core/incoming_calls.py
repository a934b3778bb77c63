# SPDX-License-Identifier: Apache-2.0
"""The calls and notifications of the other end: queued, handled, cancelled, and responded to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.rpc.core.call import MAX_IN_FLIGHT, Call, Connection, new_request_id
from systemvm.rpc.core.deadline import Deadline
from systemvm.rpc.core.errors import BUSY, DEADLINE, INVALID_REQUEST, RpcError
from systemvm.rpc.core.message import MessageId, Request, Response
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.core.perform import perform


class IncomingCalls:
    """Handles at most `MAX_IN_FLIGHT` calls of `peer`, and as many notifications; `respond` sends a response.

    `schedule` lets each call begin in a later turn of the reactor. What arrived in the same turn is read by
    then: a call that its caller cancelled while this end was busy is dropped, and not begun.
    """

    def __init__(
        self,
        peer: Connection,
        methods: MethodTable,
        clock: IReactorTime,
        respond: Callable[[Response], None],
        schedule: Callable[[Callable[[], None]], object],
        log: Logger,
    ) -> None:
        self._peer = peer
        self._methods = methods
        self._clock = clock
        self._respond = respond
        self._schedule = schedule
        self._log = log
        self._queued: dict[MessageId, tuple[Request, Deadline | None]] = {}  # in order of arrival
        self._running: dict[MessageId, Deferred[Any]] = {}
        self._cancel_on_disconnect: set[MessageId] = set()  # of those that run
        self._running_notifications = 0
        self._dropped_notifications = 0

    @property
    def running(self) -> int:
        """How many calls are being handled."""
        return len(self._running)

    def call(self, request: Request, call_id: MessageId) -> None:
        """Queue a call, or respond with an error."""
        if call_id in self._running or call_id in self._queued:
            hint = {"hint": "use an id that no other call in flight has"}
            self._respond(Response(call_id, error=RpcError(INVALID_REQUEST, "invalid request", hint)))
            return
        if len(self._running) + len(self._queued) >= MAX_IN_FLIGHT:
            hint = {"hint": f"wait for responses: at most {MAX_IN_FLIGHT} calls can be in flight"}
            self._respond(Response(call_id, error=RpcError(BUSY, "too many calls in flight", hint)))
            return
        timeout_ms = request.deadline_ms
        deadline = None if timeout_ms is None else Deadline.after(self._clock.seconds, timeout_ms / 1000)
        self._queued[call_id] = (request, deadline)
        self._schedule(self._begin_oldest)

    def notification(self, request: Request) -> None:
        """Handle a notification; it is dropped when too many are being handled."""
        if self._running_notifications >= MAX_IN_FLIGHT:
            self._dropped_notifications += 1
            if self._dropped_notifications == 1:
                self._log.warn("Dropping notifications of {caller}: too many", caller=self._peer.caller.name)
            return
        self._dropped_notifications = 0
        self._running_notifications += 1
        self._perform(request).addBoth(self._notification_handled, request.method)

    def cancel(self, params: object) -> None:
        """Cancel the call that the parameters of `rpc.cancel` name."""
        call_id = params.get("id") if isinstance(params, dict) else None
        if not isinstance(call_id, str | int):
            return
        if call_id in self._queued:
            request, _ = self._queued.pop(call_id)
            reason = f"{request.method} was cancelled before it began"
            self._respond(Response(call_id, error=RpcError(DEADLINE, reason)))
        elif call_id in self._running:
            self._running[call_id].cancel()

    def connection_lost(self) -> None:
        """Drop queued calls and cancel those that permit it; others continue until their deadlines."""
        self._queued.clear()
        for call_id in list(self._cancel_on_disconnect):
            if call_id in self._running:  # the end of one can be the end of another
                self._running[call_id].cancel()

    def _begin_oldest(self) -> None:
        """Begin one call a turn of the reactor, so that its caller can still cancel the next one."""
        if not self._queued:
            return
        call_id = next(iter(self._queued))
        request, deadline = self._queued.pop(call_id)
        performed = self._perform(request, deadline)
        self._running[call_id] = performed
        if self._methods.cancels_on_disconnect(request.method):
            self._cancel_on_disconnect.add(call_id)
        performed.addBoth(self._performed, call_id)

    def _perform(self, request: Request, deadline: Deadline | None = None) -> Deferred[Any]:
        call = Call(self._peer.caller, request.request_id or new_request_id(), self._peer, deadline)
        return perform(self._clock, self._methods, call, request.method, request.params)

    def _performed(self, result: Any, call_id: MessageId) -> None:
        del self._running[call_id]
        self._cancel_on_disconnect.discard(call_id)
        if not isinstance(result, Failure):
            self._respond(Response(call_id, result=result))
        elif isinstance(result.value, RpcError):
            self._respond(Response(call_id, error=result.value))

    def _notification_handled(self, result: Any, method: str) -> None:
        self._running_notifications -= 1
        if isinstance(result, Failure):
            self._log.info(
                "Notification {method} of {caller} failed: {error}",
                method=method,
                caller=self._peer.caller.name,
                error=str(result.value),
            )
