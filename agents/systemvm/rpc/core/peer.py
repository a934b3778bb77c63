# SPDX-License-Identifier: Apache-2.0
"""One end of a JSON-RPC 2.0 connection on which both ends call and notify: bytes in, frames out.

It has no socket and no clock of its own: `transport` feeds it and carries its frames, and tests do the same
with plain bytes and `twisted.internet.task.Clock`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from systemvm.rpc.core import frame, message
from systemvm.rpc.core.call import DEFAULT_DEADLINE_S, MAX_IN_FLIGHT, Caller
from systemvm.rpc.core.errors import INTERNAL, NOT_CONNECTED, PARSE_ERROR, RpcError
from systemvm.rpc.core.incoming_calls import IncomingCalls
from systemvm.rpc.core.message import InvalidMessage, Request, Response
from systemvm.rpc.core.method import PING, MethodTable
from systemvm.rpc.core.outgoing_calls import (
    CANCEL,
    UNENCODABLE,
    OutgoingCalls,
    encode_request,
)
from systemvm.service import slowness
from systemvm.service.slowness import TimeoutScale

__all__ = ["CANCEL", "MAX_BAD_FRAMES", "MAX_IN_FLIGHT", "PROBE_AFTER_S", "SILENT_AFTER_S", "Channel", "Peer"]

PROBE_AFTER_S = 20.0  # without a frame
SILENT_AFTER_S = 60.0  # a live end answers a probe long before
MAX_BAD_FRAMES = 256  # in a row: the other end does not speak JSON-RPC, or is hostile
_PROBE_ID = "rpc.ping"


class Channel(Protocol):
    """What carries a peer's frames."""

    def send(self, line: bytes, *, replaces: str | None = None, may_drop: bool = False) -> None:
        """Queue one frame; it replaces an unsent one with the same `replaces` key."""

    def disconnect(self, why: str) -> None:
        """Close; `Peer.connection_lost` follows."""


class Peer:
    """The other end, as this end sees it."""

    def __init__(
        self,
        caller: Caller,
        methods: MethodTable,
        clock: IReactorTime,
        channel: Channel,
        schedule: Callable[[Callable[[], None]], object] = lambda begin: begin(),
    ) -> None:
        """`schedule` runs a function in a later turn of the reactor (see `IncomingCalls`)."""
        self.caller = caller
        #: Scales timeouts of the other end; replaced by code that knows how slow that end is.
        self.timeout_scale: TimeoutScale = slowness.timeout_scale
        self._clock = clock
        self._channel = channel
        self._log = Logger(namespace="systemvm.rpc.core.peer")
        self._splitter = frame.LineSplitter()
        self._outgoing = OutgoingCalls(clock, caller.name, self._send, self.notify)
        self._incoming = IncomingCalls(self, methods, clock, self._respond, schedule, self._log)
        self._bad_frames = 0
        self._closed: str | None = None
        self._close_waiters: list[Deferred[str]] = []
        self._last_frame_s = clock.seconds()
        self._idle_timer: IDelayedCall | None = clock.callLater(PROBE_AFTER_S, self._check_idle)

    # ---- to the other end ----------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        request_id: str | None = None,
    ) -> Any:
        """Call `method` and return its result, converted to the type `result`.

        `deadline_s` is that of ordinary hardware; it scales with how slow either end is. When the deadline
        passes, or the awaiting Deferred is cancelled, the other end is sent `rpc.cancel`.

        Raises: RpcError: the one that the other end sent, or NOT_CONNECTED, BUSY, DEADLINE, INVALID_PARAMS.
        """
        if self._closed is not None:
            raise RpcError(NOT_CONNECTED, f"{self.caller.name} is not connected: {self._closed}")
        return await self._outgoing.call(method, params, result, deadline_s, request_id, self.timeout_scale)

    def notify(self, method: str, params: Any = None, *, replaces: str | None = None) -> None:
        """Send a notification, which can be lost; without a connection nothing happens.

        A notification that is still unsent is replaced by a newer one with the same `replaces` key.
        """
        if self._closed is None:
            line = encode_request(Request(method, params, None, None))
            self._channel.send(line, replaces=replaces, may_drop=True)

    def close(self, why: str) -> None:
        """Close the connection; calls that wait fail with NOT_CONNECTED."""
        if self._closed is None:
            self._channel.disconnect(why)
            self.connection_lost(why)

    @property
    def closed(self) -> bool:
        return self._closed is not None

    @property
    def calls_in_progress(self) -> int:
        """How many calls of the other end are being handled."""
        return self._incoming.running

    def when_closed(self) -> Deferred[str]:
        """Return a Deferred that fires with the reason when the connection has ended."""
        waiter: Deferred[str] = Deferred()
        if self._closed is not None:
            waiter.callback(self._closed)
        else:
            self._close_waiters.append(waiter)
        return waiter

    # ---- from the transport --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes as they arrive, and act on each line that they complete.

        Only a whole line is a sign of life: a byte now and then does not keep the connection open.
        """
        try:
            for line in self._splitter.feed(data):
                if self._closed is not None:
                    return
                self._last_frame_s = self._clock.seconds()
                self._line_received(line)
        except frame.LineTooLong as error:
            self._close_with_error(str(error))

    def connection_lost(self, why: str) -> None:
        """Handle a lost transport: queued calls are dropped, and those that permit it are cancelled.

        Other handlers continue until their deadlines: no work is left half done.
        """
        if self._closed is not None:
            return
        self._closed = why
        if self._idle_timer is not None and self._idle_timer.active():
            self._idle_timer.cancel()
        self._idle_timer = None
        self._incoming.connection_lost()
        self._outgoing.fail_all(RpcError(NOT_CONNECTED, f"connection of {self.caller.name} was lost: {why}"))
        waiters, self._close_waiters = self._close_waiters, []
        for waiter in waiters:
            waiter.callback(why)

    # ---- frames --------------------------------------------------------------------------------------------

    def _line_received(self, line: bytes) -> None:
        try:
            read = message.read(frame.decode(line))
        except RpcError as error:
            self._bad_frame(str(error), Response(None, error=error))
        except InvalidMessage as invalid:
            self._bad_frame(str(invalid), invalid.answer)
        else:
            self._bad_frames = 0
            self._dispatch(read)

    def _dispatch(self, read: Request | Response) -> None:
        if isinstance(read, Response):
            if read.id is None:
                self._log.error(
                    "{caller} rejected a frame: {error}", caller=self.caller.name, error=str(read.error)
                )
            else:
                self._outgoing.settle(read)
        elif read.id is None:
            if read.method == CANCEL:
                self._incoming.cancel(read.params)
            else:
                self._incoming.notification(read)
        elif read.method == PING:
            self._respond(Response(read.id, result={}))
        else:
            self._incoming.call(read, read.id)

    def _bad_frame(self, error: str, response: Response | None) -> None:
        """Respond to it; close after too many in a row, and log only the first one."""
        self._bad_frames += 1
        if self._bad_frames == 1:
            self._log.info("{caller} sent a bad frame: {error}", caller=self.caller.name, error=error[:300])
        if response is not None:
            self._respond(response)
        if self._bad_frames >= MAX_BAD_FRAMES:
            self._close_with_error(f"{MAX_BAD_FRAMES} bad frames in a row")

    def _close_with_error(self, why: str) -> None:
        """Send a parse error and close: where the next frame begins is unknown, or of no use any more."""
        self._log.warn("Closing the connection of {caller}: {why}", caller=self.caller.name, why=why)
        self._respond(Response(None, error=RpcError(PARSE_ERROR, "parse error", {"hint": why})))
        self.close(why)

    def _respond(self, response: Response) -> None:
        if self._closed is not None:
            return
        try:
            line = frame.encode(response.to_wire())
        except UNENCODABLE as error:
            hint = str(error)
            self._log.error("Cannot send a response to {caller}: {hint}", caller=self.caller.name, hint=hint)
            unsendable = RpcError(INTERNAL, "response cannot be sent", {"hint": hint})
            line = frame.encode(Response(response.id, error=unsendable).to_wire())
        self._channel.send(line)

    def _send(self, line: bytes) -> None:
        if self._closed is None:
            self._channel.send(line)

    # ---- silence -------------------------------------------------------------------------------------------

    def _check_idle(self) -> None:
        """Probe an end that sends nothing, and close one that does not answer the probes either."""
        silent_s = self._clock.seconds() - self._last_frame_s
        silent_after_s = SILENT_AFTER_S * self.timeout_scale()
        if silent_s >= silent_after_s:
            self._log.warn(
                "{caller} sent nothing for {silent_s} s", caller=self.caller.name, silent_s=round(silent_s)
            )
            self.close(f"silent for {silent_s:.0f} s")
            return
        if silent_s >= PROBE_AFTER_S:
            self._channel.send(encode_request(Request(PING, None, _PROBE_ID, None)), replaces=_PROBE_ID)
            wait_s = min(PROBE_AFTER_S, silent_after_s - silent_s)
        else:
            wait_s = PROBE_AFTER_S - silent_s
        self._idle_timer = self._clock.callLater(wait_s, self._check_idle)
