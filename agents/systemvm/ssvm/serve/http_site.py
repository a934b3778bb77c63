# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of downloads and uploads: bodies that are read while they arrive, and response headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.web import http
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from systemvm.ssvm.serve.body_sender import BodySender
from systemvm.ssvm.serve.body_stream import BodyStream
from systemvm.web import http_site
from systemvm.web.forwarded import Network
from systemvm.web.http_site import PublicChannel, PublicRequest, PublicSite
from systemvm.web.plain_port import PlainTransport
from systemvm.web.tls_transport import TlsTransport

#: The same for every path that leads to nothing now, whether it once did or not.
NOT_FOUND = b"There is no such file, or the link has expired. Request a new link.\n"
_FIXED_HEADERS = (
    ("Server", "systemvm-serve"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "private, no-cache"),
)


class ServeChannel(PublicChannel):
    """One client's connection."""

    factory: ServeSite

    def requestDone(self, request: Any) -> None:
        # an upload has ended the timeout, which the base class sets again only if it did that itself
        self._savedTimeOut = self._savedTimeOut or http_site.REQUEST_DEADLINE_S
        super().requestDone(request)

    @property
    def connection(self) -> TlsTransport | PlainTransport:
        return cast("TlsTransport | PlainTransport", self.transport)


@provider(INonQueuedRequestFactory)
class ServeRequest(PublicRequest):
    """A request; the site's `answer` responds to it."""

    channel: ServeChannel
    sender: BodySender | None = None
    body: BodyStream | None = None  # of an upload

    def __init__(self, channel: ServeChannel) -> None:
        super().__init__(channel)
        self.sends = False  # whether a sender has the connection

    def gotLength(self, length: int | None) -> None:
        # the base class sets these only behind the body, where an upload is at its end
        self.method, self.uri = self.channel._command, self.channel._path
        self.clientproto = self.channel._version
        self.path = self.uri.partition(b"?")[0]
        # None means chunked encoding, of unknown length; a download has no body
        is_chunked = self.requestHeaders.hasHeader(b"Transfer-Encoding")
        if self.channel.factory.begin(self, None if is_chunked else length or 0):
            length = 0  # nothing of the body is kept here
        elif is_chunked or length:
            self.refuse_body()
            length = 0
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        if self.body is not None:
            self.body.received(data)

    def take_body(self, reactor: Any) -> BodyStream:
        """Return the body of this request, for which no deadline holds any more."""
        connection = self.channel.connection
        self.channel.setTimeout(None)
        self.body = BodyStream(reactor, connection.pauseProducing, connection.resumeProducing)
        self.notifyFinish().addErrback(self._set_gone)
        return self.body

    def process(self) -> None:
        if self.body is not None:
            self.body.completed()
            return
        if self.gone:
            return
        self.notifyFinish().addErrback(self._set_gone)
        site = self.channel.factory
        answered = Deferred.fromCoroutine(_as_coroutine(site.answer, self))
        answered.addErrback(self.failed)

    def failed(self, failure: Any) -> None:
        """Respond to a failure of this program."""
        self.channel.factory.report_failure(failure)
        if not self.gone and not self.finished and not self.startedWriting:
            self.respond(500, b"Internal error.\n")
        elif not self.gone and not self.finished:
            self.channel.connection.abortConnection()

    def abandon(self) -> None:
        """End the connection of a client that does not wait for an answer."""
        if not self.gone and not self.finished:
            self.channel.connection.abortConnection()

    def _set_gone(self, _: object) -> None:
        self.gone = True
        if self.body is not None:
            self.body.lost()

    def begin(self, code: int, headers: Sequence[tuple[str, str]]) -> None:
        """Set status and headers; they are sent with the first bytes."""
        self.setResponseCode(code)
        for name, value in (*_FIXED_HEADERS, *headers):
            self.responseHeaders.setRawHeaders(name, [value])

    def respond(self, code: int, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Send a complete text, unless the connection is lost."""
        if self.gone or self.finished:
            return
        about = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        if self.body is not None and not self.body.is_complete:
            about.append(("Connection", "close"))
            self.channel.persistent = False
        self.begin(code, (*([] if code == http.NO_CONTENT else about), *headers))
        self.write(b"" if self.method == b"HEAD" else body)
        if self.body is None:
            self.finish()
        else:
            self.body.linger(self._finish)

    def _finish(self) -> None:
        if not self.gone and not self.finished:
            self.finish()

    @property
    def path_text(self) -> str:
        """The path as it was sent: links contain nothing that needs an escape."""
        return self.path.decode("latin-1")


async def _as_coroutine(answer: Callable[[Any], Awaitable[None]], request: Any) -> None:
    await answer(request)


class ServeSite(PublicSite):
    """The factory of channels; `answer` responds to a request."""

    def __init__(
        self,
        reactor: Any,
        answer: Callable[[ServeRequest], Awaitable[None]],
        trusted_proxies: Callable[[], Sequence[Network]] = tuple,
        begin: Callable[[ServeRequest, int | None], bool] = lambda request, length_bytes: False,
    ) -> None:
        """`begin` takes a request of which only the headers have come, with the length of its body."""
        super().__init__(reactor, ServeChannel, ServeRequest, trusted_proxies)
        self.answer = answer
        self.begin = begin

    def report_failure(self, failure: Any) -> None:
        self._logger.failure("request failed", failure=failure)

    def log(self, request: Any) -> None:
        self._logger.info(
            "{client} {method} {code} {length} bytes",
            client=request.client_address,
            method=request.method_text,
            code=request.code,
            length=request.sender.sent_bytes if request.sender is not None else request.sentLength,
        )
