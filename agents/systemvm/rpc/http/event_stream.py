# SPDX-License-Identifier: Apache-2.0
"""`GET /events?job=ID` on the control socket: a text/event-stream, no faster than its reader reads."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from systemvm.rpc.core.call import Call, EventSource, new_request_id
from systemvm.rpc.core.errors import FORBIDDEN, INTERNAL, INVALID_REQUEST, RpcError
from systemvm.rpc.core.message import Response
from systemvm.rpc.core.perform import report_incident
from systemvm.rpc.http.unix_resource import AuthorizedResource, write_json
from systemvm.rpc.stream.peer_credentials import Authorize
from systemvm.rpc.stream.transport import Reactor

COMMENT_S = 15.0  # between comments on an idle event stream

_log = Logger()


class EventsResource(AuthorizedResource):
    """One `data:` per value, an `error` event on failure, and its end when the job has ended."""

    def __init__(self, reactor: Reactor, events: EventSource, authorize: Authorize) -> None:
        super().__init__(authorize)
        self._reactor = reactor
        self._events = events

    def render(self, request: Request) -> int:
        caller = self.caller(request)
        if caller is None:
            return NOT_DONE_YET
        if request.method != b"GET" or request.postpath:
            request.setHeader(b"allow", b"GET")
            error = RpcError(INVALID_REQUEST, "invalid request", {"hint": "GET /events?job=ID"})
            write_json(request, Response(None, error=error).to_wire(), http.NOT_ALLOWED)
            return NOT_DONE_YET
        job = request.args.get(b"job", [None])[0]
        call = Call(caller, new_request_id(), None)
        stream = EventStream(self._reactor, request)
        source = self._events(call, None if job is None else job.decode("utf-8", "replace"))

        async def feed() -> None:
            try:
                async for value in source:
                    await stream.write(value)
            finally:
                close = getattr(source, "aclose", None)
                if close is not None:
                    await close()

        def ended(result: object) -> None:
            if not isinstance(result, Failure):
                stream.finish()
            elif isinstance(result.value, RpcError):
                stream.fail(result.value)
            elif result.check(CancelledError) is None:
                stream.fail(report_incident(call, "events", result))

        feeding = Deferred.fromCoroutine(feed())
        stream.on_disconnect(feeding.cancel)
        feeding.addBoth(ended).addErrback(report)
        return NOT_DONE_YET


@implementer(IPushProducer)
class EventStream:
    """Writes a text/event-stream no faster than its reader reads, with a comment when it is idle."""

    def __init__(self, reactor: Reactor, request: Request) -> None:
        self._request = request
        self._begun = False
        self._open = True
        self._disconnected: Callable[[], None] = lambda: None
        self._room: Deferred[None] | None = None
        self._comments = LoopingCall(self._comment)
        self._comments.clock = reactor
        self._comments.start(COMMENT_S, now=False)
        request.notifyFinish().addErrback(self._lost)
        request.registerProducer(self, True)

    def on_disconnect(self, disconnected: Callable[[], None]) -> None:
        self._disconnected = disconnected

    async def write(self, value: object) -> None:
        if self._open:
            self._write(b"data: " + msgspec.json.encode(value) + b"\n\n")
        if self._room is not None:
            await self._room

    def finish(self) -> None:
        if self._open:
            self._begin()
            self._end()

    def fail(self, error: RpcError) -> None:
        if not self._open:
            return
        if self._begun:
            self._write(b"event: error\ndata: " + msgspec.json.encode(error.to_wire()) + b"\n\n")
            self._end()
            return
        status = {FORBIDDEN: http.FORBIDDEN, INTERNAL: http.INTERNAL_SERVER_ERROR}.get(
            error.code, http.NOT_FOUND
        )
        self._stop()
        write_json(self._request, Response(None, error=error).to_wire(), status)

    def pauseProducing(self) -> None:
        if self._room is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)

    def stopProducing(self) -> None:
        """The reader has disconnected; `notifyFinish` reports it."""

    def _comment(self) -> None:
        if self._room is None:
            self._write(b":\n\n")

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._request.setHeader(b"content-type", b"text/event-stream; charset=utf-8")
            self._request.setHeader(b"cache-control", b"no-store")

    def _write(self, data: bytes) -> None:
        self._begin()
        self._request.write(data)

    def _stop(self) -> None:
        self._open = False
        if self._comments.running:
            self._comments.stop()
        self._request.unregisterProducer()

    def _end(self) -> None:
        self._stop()
        self._request.finish()

    def _lost(self, reason: Failure) -> None:
        if self._open:
            self._open = False
            self._comments.stop()
            self._disconnected()
            self.resumeProducing()


def report(failure: Failure) -> None:
    """Log a failure to write a response."""
    _log.failure("Writing a response to the control socket failed", failure=failure)
