# SPDX-License-Identifier: Apache-2.0
"""Twisted's HTTP server for strangers: the limits of a connection, and whose request it is.

Neither the path nor the headers of a request are logged: they contain tokens, cookies and secret links.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.web import http

from systemvm.web.forwarded import Network, client_address

#: A request must be complete this long after the connection was opened, or after the previous response.
REQUEST_DEADLINE_S = 30
_REFUSED_BODY = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class PublicChannel(http.HTTPChannel):
    """One client's connection while it uses HTTP."""

    totalHeadersSize = 16 * 1024
    maxHeaders = 100
    factory: PublicSite

    def dataReceived(self, data: bytes) -> None:
        # The base class restarts the timeout with every byte: a slow sender would keep its connection open.
        LineReceiver.dataReceived(self, data)


class PublicRequest(http.Request):
    """A request; `gone` is set when its connection is lost."""

    channel: PublicChannel
    gone = False

    def __init__(self, channel: PublicChannel) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.request_id = uuid.uuid4().hex

    def refuse_body(self) -> None:
        """End the connection of a request with a body that nobody reads."""
        transport: Any = self.channel.transport
        transport.write(_REFUSED_BODY)
        self.channel.loseConnection()
        self.gone = True

    def answer(self, code: int, body: bytes, content_type: str) -> None:
        """Send a complete response, unless the connection is lost."""
        if self.gone or self.finished:
            return
        self.setResponseCode(code)
        self.setHeader("Content-Type", content_type)
        self.setHeader("Content-Length", str(len(body)))
        if self.method != b"HEAD":
            self.write(body)
        self.finish()

    def header_values(self, name: str) -> list[str]:
        values = self.requestHeaders.getRawHeaders(name.encode("ascii"), [])
        return [value.decode("latin-1") for value in values]

    def header(self, name: str) -> str:
        """Return the value of a header that occurs once; empty otherwise."""
        values = self.header_values(name)
        return values[0] if len(values) == 1 else ""

    @property
    def client_address(self) -> str:
        """The client's address; a listener serves both families and shows IPv4 as ::ffff:a.b.c.d."""
        peer = str(getattr(self.getClientAddress(), "host", "unknown"))
        proxies = self.channel.factory.trusted_proxies()
        return client_address(peer, self.header_values("X-Forwarded-For"), proxies)

    @property
    def method_text(self) -> str:
        """The method as a log can show it."""
        return self.method.decode("latin-1")[:8] if self.method.isalpha() else "?"


class PublicSite(http.HTTPFactory):
    """The factory of channels of a class, with requests of another."""

    _logger = Logger()
    noisy = False

    def __init__(
        self,
        reactor: Any,
        channel: Callable[[], PublicChannel],
        request: Callable[[Any], PublicRequest],
        trusted_proxies: Callable[[], Sequence[Network]],
    ) -> None:
        super().__init__(timeout=REQUEST_DEADLINE_S, reactor=reactor)
        self._channel = channel
        self._request = request
        self.trusted_proxies = trusted_proxies

    def buildProtocol(self, addr: Any) -> Any:
        channel: Any = self._channel()
        channel.factory = self
        channel.requestFactory = self._request
        channel.callLater = self.reactor.callLater
        channel.timeOut = self.timeOut
        return channel

    def startFactory(self) -> None:
        """Do not open the base class's access log, which would contain paths."""

    def stopFactory(self) -> None:
        """Do nothing; see startFactory."""
