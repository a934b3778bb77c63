# SPDX-License-Identifier: Apache-2.0
"""`/client/changes`: server-sent events that name the tables that have changed, so that a page need not poll.

They contain names only, and no row: a page asks for what it shows as its user. The session's two secrets come
as cookies. Scripts of other sites cannot read the answer, and nothing is changed by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from systemvm.management.api.errors import ApiError
from systemvm.management.api.http import COOKIE, KEY_COOKIE, PublicAddress
from systemvm.management.api.principal import Principal
from systemvm.management.api.sessions import Sessions
from systemvm.management.jobs.event_feed import EventFeed, Subscription
from systemvm.management.state.changes import Changes
from systemvm.management.state.topics import EVERYTHING
from systemvm.rpc.http.event_stream import EventStream
from systemvm.rpc.stream.transport import Reactor

#: Least time between two events of a stream: what changes meanwhile comes in one.
PAUSE_S = 0.3
#: How often a stream checks that its session has not expired; that it was ended is noted at once.
CHECK_S = 30.0
#: Of one user: each open page has one.
MAX_STREAMS = 64
_TOO_MANY_REQUESTS = 429  # Twisted has no name for it
#: Every call of a page changes these, and no page shows them.
_OF_LOGINS = frozenset({"sessions", "login_sources"})
_TOPIC = "tables"

Tables = frozenset[str]
#: Runs a function on the reactor's thread: commits are noted on the writer's.
CallInReactor = Callable[[Callable[[Tables], None], Tables], object]


def follow_changes(changes: Changes, call_in_reactor: CallInReactor) -> EventFeed[Tables]:
    """Return a feed of the tables that commits of this process change."""
    feed: EventFeed[Tables] = EventFeed(frozenset.union)

    def publish(topics: Tables) -> None:
        tables = frozenset(topic for topic in topics if topic.isidentifier() or topic == EVERYTHING)
        if tables:
            feed.publish(_TOPIC, tables)

    def committed(topics: Tables) -> None:
        call_in_reactor(publish, topics)

    changes.listen(committed)
    return feed


class ChangeStreamResource(Resource):
    """One stream for each open page, until its session ends."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self, reactor: Reactor, feed: EventFeed[Tables], sessions: Sessions, front: PublicAddress
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._feed = feed
        self._sessions = sessions
        self._front = front
        self._streams: Counter[int] = Counter()  # by the user's number

    def render_GET(self, request: Request) -> int:
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        serving = Deferred.fromCoroutine(self._serve(request, gone))
        serving.addErrback(lambda failure: self._log.failure("cannot serve changes", failure=failure))
        return NOT_DONE_YET

    async def _serve(self, request: Request, gone: list[Failure]) -> None:
        user = await self._user_of(request)
        if gone:
            return
        if user is None:
            self._refuse(request, http.UNAUTHORIZED)
            return
        if self._streams[user.user.id] >= MAX_STREAMS:
            self._refuse(request, _TOO_MANY_REQUESTS)
            return
        for name, value in ((b"X-Content-Type-Options", b"nosniff"), (b"X-Accel-Buffering", b"no")):
            request.setHeader(name, value)
        stream = EventStream(self._reactor, request)
        self._streams[user.user.id] += 1
        try:
            feeding = Deferred.fromCoroutine(self._follow(request, stream))
            stream.on_disconnect(feeding.cancel)
            await feeding
            stream.finish()
        except CancelledError:
            pass  # the page was closed
        except Exception:
            stream.finish()  # the page connects again; an open stream without events would keep it from that
            raise
        finally:
            self._streams[user.user.id] -= 1

    async def _follow(self, request: Request, stream: EventStream) -> None:
        with self._feed.subscribe(_TOPIC) as subscription:
            await stream.write([EVERYTHING])  # what has changed before this stream is not known
            while await self._user_of(request) is not None:
                tables = await self._changed(subscription)
                shown = sorted(tables - _OF_LOGINS)
                if shown:
                    await stream.write(shown)
                    await self._pause(PAUSE_S)

    async def _changed(self, subscription: Subscription[Tables]) -> Tables:
        """Return the tables that change next; none of them when it is time to check the session."""
        change = Deferred.fromCoroutine(subscription.next())
        change.addTimeout(CHECK_S, self._reactor)
        try:
            return await change
        except defer.TimeoutError:
            return frozenset()

    async def _pause(self, seconds: float) -> None:
        paused: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._reactor.callLater(seconds, paused.callback, None)
        await paused

    async def _user_of(self, request: Request) -> Principal | None:
        """Return the user whose session the request has; None when there is none, or no second factor yet."""
        try:
            self._front.check_origin(request)
        except ApiError:
            return None
        cookie, key = (request.getCookie(name) or b"" for name in (COOKIE, KEY_COOKIE))
        user = await self._sessions.peek(cookie.decode("latin-1"), key.decode("latin-1"))
        return user if user is not None and user.is_verified else None

    def _refuse(self, request: Request, code: int) -> None:
        request.setResponseCode(code)
        request.setHeader(b"Cache-Control", b"no-store")
        request.finish()
