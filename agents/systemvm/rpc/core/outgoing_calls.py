# SPDX-License-Identifier: Apache-2.0
"""The calls that this end has made: each waits for its response, its deadline, or a lost connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from systemvm.rpc.core import frame
from systemvm.rpc.core.call import MAX_IN_FLIGHT, new_request_id
from systemvm.rpc.core.errors import BUSY, DEADLINE, INTERNAL, INVALID_PARAMS, RpcError
from systemvm.rpc.core.message import MessageId, Request, Response
from systemvm.service.scaled_timer import ScaledTimer
from systemvm.service.slowness import TimeoutScale

CANCEL = "rpc.cancel"  # notification: the caller does not wait any more for the call {"id": …}

#: What msgspec raises for values that JSON cannot hold, besides ValueError for a frame that is too long.
UNENCODABLE = (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError)


def encode_request(request: Request) -> bytes:
    """Encode a request as a line.

    Raises: RpcError INVALID_PARAMS when the parameters cannot be sent.
    """
    try:
        return frame.encode(request.to_wire())
    except UNENCODABLE as error:
        raise RpcError(INVALID_PARAMS, f"{request.method} cannot be sent", {"hint": str(error)}) from None


class OutgoingCalls:
    """Calls to `remote_name`, at most `MAX_IN_FLIGHT` at a time; `send` queues a frame and loses none."""

    def __init__(
        self,
        clock: IReactorTime,
        remote_name: str,
        send: Callable[[bytes], None],
        notify: Callable[[str, Any], None],
    ) -> None:
        self._clock = clock
        self._remote_name = remote_name
        self._send = send
        self._notify = notify
        self._next_id = 1
        self._waiting: dict[MessageId, Deferred[Any]] = {}

    async def call(
        self,
        method: str,
        params: Any,
        result: Any,
        deadline_s: float,
        request_id: str | None,
        timeout_scale: TimeoutScale,
    ) -> Any:
        """See `Peer.call`."""
        if len(self._waiting) >= MAX_IN_FLIGHT:
            raise RpcError(BUSY, f"too many calls to {self._remote_name}: {MAX_IN_FLIGHT} wait for responses")
        call_id = self._next_id
        self._next_id += 1
        deadline_ms = int(1000 * deadline_s * timeout_scale())
        line = encode_request(Request(method, params, call_id, request_id or new_request_id(), deadline_ms))
        waiting: Deferred[Any] = Deferred()
        self._waiting[call_id] = waiting
        timer = ScaledTimer(
            self._clock, deadline_s, lambda: self._expire(call_id, method, timer.waited_s), timeout_scale
        )
        try:
            self._send(line)
            answer = await waiting
        except CancelledError:
            self._send_cancel(call_id)
            raise
        finally:
            self._waiting.pop(call_id, None)
            timer.cancel()
        return self._convert(method, answer, result)

    def settle(self, response: Response) -> None:
        """End the call that a response is for; a response to a probe or after the deadline has none."""
        waiting = None if response.id is None else self._waiting.pop(response.id, None)
        if waiting is None:
            return
        if response.error is not None:
            waiting.errback(Failure(response.error))
        else:
            waiting.callback(response.result)

    def fail_all(self, error: RpcError) -> None:
        """End every call with `error`."""
        for waiting in list(self._waiting.values()):
            waiting.errback(Failure(error))

    def _convert(self, method: str, answer: Any, result: Any) -> Any:
        if result is None:
            return answer
        try:
            return msgspec.convert(answer, type=result, strict=True)
        except msgspec.ValidationError as error:
            text = f"result of {method} from {self._remote_name} has an unexpected type"
            raise RpcError(INTERNAL, text, {"hint": str(error)}) from None

    def _expire(self, call_id: MessageId, method: str, waited_s: float) -> None:
        waiting = self._waiting.pop(call_id, None)
        if waiting is not None:
            self._send_cancel(call_id)
            text = f"{self._remote_name} did not answer {method} in {waited_s:g} s"
            waiting.errback(Failure(RpcError(DEADLINE, text)))

    def _send_cancel(self, call_id: MessageId) -> None:
        self._notify(CANCEL, {"id": call_id})
