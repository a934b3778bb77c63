# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of the console: its routes, its response headers, and the hand-over to the relay.

Only a request's method, the name of its route and the status code are logged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.protocol import Protocol
from twisted.logger import LogLevel
from twisted.web.iweb import INonQueuedRequestFactory
from zope.interface import provider

from systemvm.web.forwarded import Network
from systemvm.web.http_site import PublicChannel, PublicRequest, PublicSite
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.web.tls_transport import TlsTransport

MAX_BODY_BYTES = 8 * 1024

#: The name of a session's cookie begins with this; its id follows.
COOKIE = "__Host-console-"
_SESSION_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class ConsoleChannel(PublicChannel):
    """One browser's connection while it uses HTTP."""

    factory: ConsoleSite

    @property
    def browser(self) -> TlsTransport:
        return cast(TlsTransport, self.transport)

    def has_early_bytes(self) -> bool:
        """Return whether the browser sent anything after the request that is being answered."""
        return bool(self._buffer or self._dataBuffer or self.browser.pending_bytes())

    def hand_over(self) -> TlsTransport:
        """Detach the channel and return the transport; no timeout or producer of the channel remains."""
        self.setTimeout(None)
        self._savedTimeOut = None
        self.browser.unregisterProducer()
        self.browser.protocol = _DETACHED
        return self.browser


class _DetachedProtocol(Protocol):
    """Takes the place of a channel that has handed over its connection."""


_DETACHED = _DetachedProtocol()  # has no state: one for all connections


@provider(INonQueuedRequestFactory)
class ConsoleRequest(PublicRequest):
    """A request with the response's fixed headers; the site's routes answer it."""

    channel: ConsoleChannel
    route = "-"  # for the log
    static = False

    def gotLength(self, length: int | None) -> None:
        # None means chunked encoding, of unknown length; no browser uses it for a small form.
        if self.requestHeaders.hasHeader(b"Transfer-Encoding") or (length or 0) > MAX_BODY_BYTES:
            self.refuse_body()
            length = 0
        super().gotLength(length)

    def process(self) -> None:
        if self.gone:
            return
        site = self.channel.factory
        for name, value in site.fixed_headers():
            self.responseHeaders.setRawHeaders(name, [value])
        self.notifyFinish().addErrback(self._set_gone)
        try:
            site.dispatch(self)
        except Exception:
            site.report_failure()
            self.answer(500, b"Internal error of the console proxy.\n", "text/plain; charset=utf-8")

    def _set_gone(self, _: object) -> None:
        self.gone = True

    def body(self) -> bytes:
        return b"" if self.content is None else self.content.read()

    def answer_unchanged(self) -> None:
        """Send 304: the browser has the current file."""
        self.setResponseCode(304)
        self.finish()

    def session_secret(self, session_id: str) -> str | None:
        """Return what the browser's cookie of a session holds."""
        if not _SESSION_ID.fullmatch(session_id):
            return None
        value = self.getCookie((COOKIE + session_id).encode("ascii"))
        return value.decode("latin-1") if isinstance(value, bytes) and len(value) <= 128 else None

    def session_cookies(self) -> list[str]:
        """Return the ids of the sessions that the browser has cookies of."""
        names = [name.decode("latin-1") for name in self.received_cookies]
        return [name[len(COOKIE) :] for name in names if name.startswith(COOKIE)]


class ConsoleSite(PublicSite):
    """The factory of channels; `dispatch` answers a request, `endpoint` is known after the first setup."""

    def __init__(
        self,
        reactor: Any,
        endpoint: Callable[[], PublicEndpoint | None],
        dispatch: Callable[[ConsoleRequest], None],
        trusted_proxies: Callable[[], Sequence[Network]] = tuple,
    ) -> None:
        super().__init__(reactor, ConsoleChannel, ConsoleRequest, trusted_proxies)
        self._endpoint = endpoint
        self.dispatch = dispatch

    def report_failure(self) -> None:
        self._logger.failure("request failed")

    def log(self, request: ConsoleRequest) -> None:  # type: ignore[override]
        # A page loads about forty modules.
        level = LogLevel.debug if request.static else LogLevel.info
        self._logger.emit(
            level,
            "{client} {method} {route} {code}",
            client=request.client_address,
            method=request.method_text,
            route=request.route,
            code=request.code,
        )

    def fixed_headers(self) -> list[tuple[bytes, bytes]]:
        endpoint = self._endpoint()
        connect = " ".join(["'self'", *(endpoint.websocket_sources if endpoint is not None else ())])
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            f"connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return [
            (b"Server", b"systemvm-console"),
            (b"Content-Security-Policy", policy.encode("ascii")),
            (b"Strict-Transport-Security", b"max-age=31536000"),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"X-Frame-Options", b"DENY"),
            (b"Referrer-Policy", b"no-referrer"),
            (b"Cross-Origin-Opener-Policy", b"same-origin"),
            (b"Cross-Origin-Resource-Policy", b"same-origin"),
            (b"Permissions-Policy", b"camera=(), microphone=(), geolocation=(), usb=()"),
            (b"Cache-Control", b"no-store"),
        ]
