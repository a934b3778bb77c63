# SPDX-License-Identifier: Apache-2.0
"""The server of `unix`: twisted.web resources for `POST /rpc` and `GET /events`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from systemvm.rpc.core import frame, message
from systemvm.rpc.core.call import Call, Caller, EventSource, new_request_id
from systemvm.rpc.core.errors import INVALID_REQUEST, RpcError
from systemvm.rpc.core.message import InvalidMessage, Response
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.core.perform import perform
from systemvm.rpc.http.bounded_request import BoundedRequest
from systemvm.rpc.http.event_stream import EventsResource
from systemvm.rpc.http.unix_resource import AuthorizedResource, write_json
from systemvm.rpc.stream.peer_credentials import Authorize
from systemvm.rpc.stream.transport import Reactor

MAX_BODY_BYTES = frame.MAX_LINE_BYTES
MAX_BATCH = 64
IDLE_S = 60.0

_log = Logger()


def site(
    reactor: Reactor, methods: MethodTable, authorize: Authorize, events: EventSource | None
) -> IProtocolFactory:
    """Return what serves the connections of `unix.listen_unix`."""
    root = _Root()
    root.putChild(b"rpc", _RpcResource(reactor, methods, authorize))
    if events is not None:
        root.putChild(b"events", EventsResource(reactor, events, authorize))
    made = _Site(root, requestFactory=_BoundedRequest, timeout=IDLE_S, reactor=reactor)
    made.noisy = False
    return made


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> Resource:
        return _NotFound()


class _NotFound(Resource):
    isLeaf = True

    def render(self, request: Request) -> int:
        error = RpcError(INVALID_REQUEST, "invalid request", {"hint": "POST /rpc, or GET /events?job=ID"})
        write_json(request, Response(None, error=error).to_wire(), http.NOT_FOUND)
        return NOT_DONE_YET


class _Site(Site):
    def log(self, request: Any) -> None:
        """Write no access log: calls are logged where they are handled."""


class _BoundedRequest(BoundedRequest):
    max_body_bytes = MAX_BODY_BYTES


class _RpcResource(AuthorizedResource):
    """One message or a batch; the HTTP status is 200 whatever the outcome of the messages."""

    def __init__(self, reactor: Reactor, methods: MethodTable, authorize: Authorize) -> None:
        super().__init__(authorize)
        self._reactor = reactor
        self._methods = methods

    def render(self, request: Request) -> int:
        caller = self.caller(request)
        if caller is None:
            return NOT_DONE_YET
        if request.method != b"POST" or request.postpath:
            request.setHeader(b"allow", b"POST")
            error = RpcError(
                INVALID_REQUEST, "invalid request", {"hint": "POST one message or a batch to /rpc"}
            )
            write_json(request, Response(None, error=error).to_wire(), http.NOT_ALLOWED)
            return NOT_DONE_YET
        body: Any = request.content
        pending = _PendingResponse(request)
        self._respond(caller, body.read()).addCallback(pending.write_json).addErrback(_report)
        return NOT_DONE_YET

    def _respond(self, caller: Caller, body: bytes) -> Deferred[Any]:
        """Return a Deferred with the value to write: a response, a list of them, or None."""
        try:
            decoded = frame.decode(body)
        except RpcError as error:
            return _succeed(Response(None, error=error).to_wire())
        if not isinstance(decoded, list):
            return self._one(caller, decoded)
        if not 0 < len(decoded) <= MAX_BATCH:
            hint = {"hint": f"a batch holds 1 to {MAX_BATCH} messages"}
            return _succeed(
                Response(None, error=RpcError(INVALID_REQUEST, "invalid request", hint)).to_wire()
            )
        answers = gatherResults([self._one(caller, each) for each in decoded])
        return answers.addCallback(lambda all_: [each for each in all_ if each is not None] or None)

    def _one(self, caller: Caller, decoded: object) -> Deferred[Any]:
        """Return a Deferred with the response to one message, None for a notification."""
        try:
            read = message.read(decoded)
        except InvalidMessage as invalid:
            return _succeed(None if invalid.answer is None else invalid.answer.to_wire())
        if isinstance(read, Response):
            hint = {"hint": "send a request, not a response"}
            return _succeed(
                Response(read.id, error=RpcError(INVALID_REQUEST, "invalid request", hint)).to_wire()
            )
        call = Call(caller, read.request_id or new_request_id(), None)
        call_id = read.id

        def answered(result: Any) -> Any:
            if call_id is None:
                return None
            if not isinstance(result, Failure):
                return Response(call_id, result=result).to_wire()
            if isinstance(result.value, RpcError):
                return Response(call_id, error=result.value).to_wire()
            return result

        return perform(self._reactor, self._methods, call, read.method, read.params).addBoth(answered)


class _PendingResponse:
    """A request whose client can disconnect before the response is ready."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._is_open = True
        request.notifyFinish().addErrback(self._lost)

    def write_json(self, value: object) -> None:
        if self._is_open:
            write_json(self._request, value)

    def _lost(self, reason: Failure) -> None:
        self._is_open = False


def _succeed(value: Any) -> Deferred[Any]:
    deferred: Deferred[Any] = Deferred()
    deferred.callback(value)
    return deferred


def _report(failure: Failure) -> None:
    _log.failure("Answering at the control socket failed", failure=failure)
