# SPDX-License-Identifier: Apache-2.0
"""One end of a JSON-RPC 2.0 conversation in which both call and notify: bytes in, frames out.

It has no socket and no clock of its own: `transport` feeds it and carries its frames, and tests do the same
with plain bytes and `twisted.internet.task.Clock`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.rpc.core import frame, message
from systemvm.rpc.core.call import DEFAULT_DEADLINE_S, Call, Caller
from systemvm.rpc.core.deadline import Deadline
from systemvm.rpc.core.errors import (
    BUSY,
    DEADLINE,
    INTERNAL,
    INVALID_PARAMS,
    INVALID_REQUEST,
    NOT_CONNECTED,
    PARSE_ERROR,
    RpcError,
)
from systemvm.rpc.core.message import InvalidMessage, MessageId, Request, Response
from systemvm.rpc.core.method import PING, MethodTable
from systemvm.rpc.core.perform import new_request_id, perform
from systemvm.service import slowness
from systemvm.service.scaled_timer import ScaledTimer
from systemvm.service.slowness import TimeoutScale

MAX_IN_FLIGHT = 64  # calls, each way; notifications being handled have as many places of their own
PROBE_AFTER_S = 20.0  # of silence
SILENT_AFTER_S = 60.0  # a live end answers a probe long before

CANCEL = "rpc.cancel"  # notification: the caller gave up on the call {"id": …}
_PROBE_ID = "rpc.ping"
MAX_BAD_FRAMES = 256  # one after the other: this end does not speak JSON-RPC, or means harm


class Channel(Protocol):
    """What carries a peer's frames."""

    def send(self, line: bytes, *, replaces: str | None = None, may_drop: bool = False) -> None:
        """Queue one frame; `replaces` takes the place of an unsent one of the same key."""

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
        later: Callable[[Callable[[], None]], object] = lambda begin: begin(),
    ) -> None:
        """`later` has calls of the other end begin in a later turn of the reactor.

        What came in the same turn is read by then: a call that its caller gave up while this end was busy is
        dropped, and not begun.
        """
        self.caller = caller
        #: What waits for the other end are multiplied by; whoever knows that it is slow replaces this.
        self.timeout_scale: TimeoutScale = slowness.timeout_scale
        self._methods = methods
        self._clock = clock
        self._channel = channel
        self._log = Logger(namespace="systemvm.rpc.core.peer")
        self._splitter = frame.LineSplitter()
        self._next_id = 1
        self._waiting: dict[MessageId, Deferred[Any]] = {}
        self._later = later
        self._unbegun: dict[MessageId, tuple[Request, Deadline | None]] = {}  # in the order of coming
        self._serving: dict[MessageId, Deferred[Any]] = {}
        self._cancel_on_hangup: set[MessageId] = set()  # of those that are served
        self._handling_notifications = 0
        self._dropped_notifications = 0
        self._bad_frames = 0
        self._closed: str | None = None
        self._close_waiters: list[Deferred[str]] = []
        self._heard_at_s = clock.seconds()
        self._watch: IDelayedCall | None = clock.callLater(PROBE_AFTER_S, self._watch_silence)

    # What this end asks of the other.

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        request_id: str | None = None,
    ) -> Any:
        """Call `method` and return its answer, converted to the type `result`; RpcError for anything else.

        `deadline_s` is that of ordinary hardware; it scales with how slow either end is.
        Cancelling the awaiting Deferred tells the other end to give up, and so does the deadline.
        """
        if self._closed is not None:
            raise RpcError(NOT_CONNECTED, f"{self.caller.name} is not connected: {self._closed}")
        if len(self._waiting) >= MAX_IN_FLIGHT:
            raise RpcError(BUSY, f"{MAX_IN_FLIGHT} calls to {self.caller.name} wait for answers already")
        call_id = self._next_id
        self._next_id += 1
        deadline_ms = int(1000 * deadline_s * self.timeout_scale())
        line = self._request_line(
            Request(method, params, call_id, request_id or new_request_id(), deadline_ms)
        )
        waiting: Deferred[Any] = Deferred()
        self._waiting[call_id] = waiting
        timer = ScaledTimer(
            self._clock, deadline_s, lambda: self._expire(call_id, method, timer.waited_s), self.timeout_scale
        )
        try:
            self._channel.send(line)
            answer = await waiting
        except CancelledError:
            self._give_up(call_id)
            raise
        finally:
            self._waiting.pop(call_id, None)
            timer.cancel()
        if result is None:
            return answer
        try:
            return msgspec.convert(answer, type=result, strict=True)
        except msgspec.ValidationError as error:
            text = f"{self.caller.name} answered {method} with something of another shape"
            raise RpcError(INTERNAL, text, {"hint": str(error)}) from None

    def notify(self, method: str, params: Any = None, *, replaces: str | None = None) -> None:
        """Tell the other end something that may be lost; nothing happens when there is no connection.

        A notification that still waits to be sent gives way to a newer one with the same `replaces` key.
        """
        if self._closed is None:
            line = self._request_line(Request(method, params, None, None))
            self._channel.send(line, replaces=replaces, may_drop=True)

    def close(self, why: str) -> None:
        """End the conversation; calls that wait fail with NOT_CONNECTED."""
        if self._closed is None:
            self._channel.disconnect(why)
            self.connection_lost(why)

    @property
    def closed(self) -> bool:
        return self._closed is not None

    @property
    def calls_in_progress(self) -> int:
        """How many calls of the other end are being handled."""
        return len(self._serving)

    def when_closed(self) -> Deferred[str]:
        """Fires with the reason when the conversation has ended."""
        waiter: Deferred[str] = Deferred()
        if self._closed is not None:
            waiter.callback(self._closed)
        else:
            self._close_waiters.append(waiter)
        return waiter

    # What the transport tells.

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come, and act on each line they complete.

        Only whole lines are a sign of life: who sends a byte now and then holds nobody up.
        """
        try:
            for line in self._splitter.feed(data):
                if self._closed is not None:
                    return
                self._heard_at_s = self._clock.seconds()
                self._line_received(line)
        except frame.LineTooLong as error:
            self._hang_up_on(str(error))

    def connection_lost(self, why: str) -> None:
        """The transport is gone: what has not begun is dropped, and what can be cancelled is.

        Other handlers go on until their deadlines: no work is left half done.
        """
        if self._closed is not None:
            return
        self._closed = why
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self._watch = None
        self._unbegun.clear()
        for call_id in list(self._cancel_on_hangup):
            if call_id in self._serving:  # the end of one may be the end of another
                self._serving[call_id].cancel()
        lost = RpcError(NOT_CONNECTED, f"the connection of {self.caller.name} ended: {why}")
        for waiting in list(self._waiting.values()):
            waiting.errback(Failure(lost))
        waiters, self._close_waiters = self._close_waiters, []
        for waiter in waiters:
            waiter.callback(why)

    # Lines.

    def _line_received(self, line: bytes) -> None:
        try:
            read = message.read(frame.decode(line))
        except RpcError as error:
            self._bad_frame(str(error), Response(None, error=error))
        except InvalidMessage as invalid:
            self._bad_frame(str(invalid), invalid.answer)
        else:
            self._bad_frames = 0
            if isinstance(read, Response):
                self._answered(read)
            elif read.id is None:
                self._notified(read)
            else:
                self._called(read, read.id)

    def _bad_frame(self, error: str, answer: Response | None) -> None:
        """Answer it; who sends nothing else is hung up on, and the log has no line for each."""
        self._bad_frames += 1
        if self._bad_frames == 1:
            self._log.info("{caller} sent a bad frame: {error}", caller=self.caller.name, error=error[:300])
        if answer is not None:
            self._answer(answer)
        if self._bad_frames >= MAX_BAD_FRAMES:
            self._hang_up_on(f"{MAX_BAD_FRAMES} bad frames one after the other")

    def _hang_up_on(self, why: str) -> None:
        """Where the next frame begins is unknown, or does not matter any more: say so, and close."""
        self._log.warn("Closing on {caller}: {why}", caller=self.caller.name, why=why)
        self._answer(Response(None, error=RpcError(PARSE_ERROR, "parse error", {"hint": why})))
        self.close(why)

    def _answered(self, answer: Response) -> None:
        if answer.id is None:
            error = str(answer.error)
            self._log.error(
                "{caller} could not read our frame: {error}", caller=self.caller.name, error=error
            )
            return
        waiting = self._waiting.pop(answer.id, None)
        if waiting is None:
            return  # a probe's, or one that came after its deadline
        if answer.error is not None:
            waiting.errback(Failure(answer.error))
        else:
            waiting.callback(answer.result)

    def _called(self, request: Request, call_id: MessageId) -> None:
        if request.method == PING:
            self._answer(Response(call_id, result={}))
            return
        if call_id in self._serving or call_id in self._unbegun:
            hint = {"hint": "this id waits for its answer already"}
            self._answer(Response(call_id, error=RpcError(INVALID_REQUEST, "invalid request", hint)))
            return
        if len(self._serving) + len(self._unbegun) >= MAX_IN_FLIGHT:
            hint = {"hint": f"at most {MAX_IN_FLIGHT} calls may wait for their answers"}
            self._answer(Response(call_id, error=RpcError(BUSY, "too many calls in flight", hint)))
            return
        waits_ms = request.deadline_ms
        deadline = None if waits_ms is None else Deadline.after(self._clock.seconds, waits_ms / 1000)
        self._unbegun[call_id] = (request, deadline)
        self._later(self._begin_oldest)

    def _begin_oldest(self) -> None:
        """One call a turn of the reactor, so that between two of them a caller may give up the second."""
        if not self._unbegun:
            return
        call_id = next(iter(self._unbegun))
        request, deadline = self._unbegun.pop(call_id)
        performed = self._perform(request, deadline)
        self._serving[call_id] = performed
        if self._methods.cancels_on_disconnect(request.method):
            self._cancel_on_hangup.add(call_id)
        performed.addBoth(self._performed, call_id)

    def _performed(self, result: Any, call_id: MessageId) -> None:
        del self._serving[call_id]
        self._cancel_on_hangup.discard(call_id)
        if not isinstance(result, Failure):
            self._answer(Response(call_id, result=result))
        elif isinstance(result.value, RpcError):
            self._answer(Response(call_id, error=result.value))

    def _notified(self, request: Request) -> None:
        if request.method == CANCEL:
            self._cancelled(request.params)
            return
        if self._handling_notifications >= MAX_IN_FLIGHT:
            self._dropped_notifications += 1
            if self._dropped_notifications == 1:
                self._log.warn("Dropping notifications of {caller}: too many", caller=self.caller.name)
            return
        self._dropped_notifications = 0
        self._handling_notifications += 1
        self._perform(request).addBoth(self._notification_handled, request.method)

    def _notification_handled(self, result: Any, method: str) -> None:
        self._handling_notifications -= 1
        if isinstance(result, Failure):
            self._log.info(
                "Notification {method} of {caller} failed: {error}",
                method=method,
                caller=self.caller.name,
                error=str(result.value),
            )

    def _perform(self, request: Request, deadline: Deadline | None = None) -> Deferred[Any]:
        call = Call(self.caller, request.request_id or new_request_id(), self, deadline)
        return perform(self._clock, self._methods, call, request.method, request.params)

    def _cancelled(self, params: object) -> None:
        call_id = params.get("id") if isinstance(params, dict) else None
        if not isinstance(call_id, str | int):
            return
        if call_id in self._unbegun:
            request, _ = self._unbegun.pop(call_id)
            why = f"{request.method} was given up before it began"
            self._answer(Response(call_id, error=RpcError(DEADLINE, why)))
        elif call_id in self._serving:
            self._serving[call_id].cancel()

    def _answer(self, answer: Response) -> None:
        if self._closed is not None:
            return
        try:
            line = frame.encode(answer.to_wire())
        except (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            hint = str(error)
            self._log.error("Cannot send an answer to {caller}: {hint}", caller=self.caller.name, hint=hint)
            unsendable = RpcError(INTERNAL, "the answer cannot be sent", {"hint": hint})
            line = frame.encode(Response(answer.id, error=unsendable).to_wire())
        self._channel.send(line)

    @staticmethod
    def _request_line(request: Request) -> bytes:
        try:
            return frame.encode(request.to_wire())
        except (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise RpcError(INVALID_PARAMS, f"{request.method} cannot be sent", {"hint": str(error)}) from None

    # Time.

    def _expire(self, call_id: MessageId, method: str, waited_s: float) -> None:
        waiting = self._waiting.pop(call_id, None)
        if waiting is not None:
            self._give_up(call_id)
            text = f"{self.caller.name} did not answer {method} in {waited_s:g} s"
            waiting.errback(Failure(RpcError(DEADLINE, text)))

    def _give_up(self, call_id: MessageId) -> None:
        self.notify(CANCEL, {"id": call_id})

    def _watch_silence(self) -> None:
        silent_s = self._clock.seconds() - self._heard_at_s
        silent_after_s = SILENT_AFTER_S * self.timeout_scale()
        if silent_s >= silent_after_s:
            self._log.warn("{caller} fell silent", caller=self.caller.name)
            self.close(f"silent for {silent_s:.0f} s")
            return
        if silent_s >= PROBE_AFTER_S:
            self._channel.send(self._request_line(Request(PING, None, _PROBE_ID, None)), replaces=_PROBE_ID)
            wait_s = min(PROBE_AFTER_S, silent_after_s - silent_s)
        else:
            wait_s = PROBE_AFTER_S - silent_s
        self._watch = self._clock.callLater(wait_s, self._watch_silence)
