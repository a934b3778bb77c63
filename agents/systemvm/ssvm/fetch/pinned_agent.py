# SPDX-License-Identifier: Apache-2.0
"""The agent beneath treq: every connection goes to one address, and the response is kept as it was received.

treq normalizes URLs, requests gzip and decodes it, and keeps cookies; Twisted's client accepts 16 MB of
headers. A probe must send exactly the request that the mover sends later, and must judge exactly what the
server sent. So this agent sends the URL as `source_url.parse` returned it, requests no encoding, limits
the size of a response, and copies status, headers and length before a layer above can change them.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.client import URI, Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from systemvm.ssvm.fetch import tls_trust
from systemvm.ssvm.fetch.route import SourceRoute
from systemvm.ssvm.fetch.tunnel_endpoint import TunnelEndpoint
from systemvm.ssvm.limits import KIB, TransferLimits
from systemvm.wire.source_url import SourceUrl

MAX_RESPONSE_BYTES = 256 * KIB  # headers and the beginning of a body
#: For treq, which cannot parse an IPv6 address: the agent sends its own URL, whatever treq asks for.
TREQ_URL = "http://pinned.invalid/"
#: treq would act on these: it decodes the body, and it parses cookies.
_HIDDEN_FROM_TREQ = (b"content-encoding", b"set-cookie", b"set-cookie2")


@frozen
class ResponseHead:
    """A response without its body; the names of headers are in lower case, with all values of each."""

    status: int
    headers: dict[str, list[str]]

    @classmethod
    def of(cls, response: Any) -> ResponseHead:
        """Copy the head of Twisted's response."""
        headers = {
            name.decode("latin-1").lower(): [value.decode("latin-1") for value in values]
            for name, values in response.headers.getAllRawHeaders()
        }
        if "content-length" not in headers and isinstance(response.length, int):
            headers["content-length"] = [str(response.length)]  # Twisted moves it out of the headers
        return cls(response.code, headers)

    def location(self) -> bytes:
        """Return the raw value of Location; empty when there is none."""
        return self.headers.get("location", [""])[0].encode("latin-1")


@implementer(IAgent)
class PinnedAgent:
    """Sends requests for one URL to one address; `head` is that of the last response."""

    def __init__(
        self,
        reactor: Any,
        url: SourceUrl,
        endpoint: IStreamClientEndpoint,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self._url = url
        self._endpoint = _SingleEndpoint(endpoint, max_response_bytes)
        self._agent = Agent.usingEndpointFactory(reactor, self._endpoint)
        self.head: ResponseHead | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        exact = Headers() if headers is None else headers.copy()
        exact.setRawHeaders(b"Accept-Encoding", [b"identity"])
        exact.removeHeader(b"Connection")  # Twisted sends its own, which is `close` without a pool
        url = self._url.text.encode("ascii")  # not `uri`: treq has normalized it
        requested: Deferred[IResponse] = self._agent.request(method, url, exact, bodyProducer)
        return requested.addCallback(self._received)

    def abort(self) -> None:
        """Close the connection, if there is one."""
        self._endpoint.abort()

    def _received(self, response: Any) -> IResponse:
        self.head = ResponseHead.of(response)
        for name in _HIDDEN_FROM_TREQ:
            response.headers.removeHeader(name)
        received: IResponse = response
        return received


def pinned_endpoint(
    reactor: Any, url: SourceUrl, route: SourceRoute, source_ca_pem: str | None, limits: TransferLimits
) -> IStreamClientEndpoint:
    """Return an endpoint at the route's address, whatever names resolve to; TLS is verified for the URL's."""
    kind = TCP4ClientEndpoint if route.address.version == 4 else TCP6ClientEndpoint
    endpoint: IStreamClientEndpoint = kind(
        reactor, str(route.address), route.port, timeout=limits.connect_timeout_s
    )
    if route.proxy is not None:
        endpoint = TunnelEndpoint(endpoint, url, route.proxy)
    if url.is_tls:
        endpoint = wrapClientTLS(tls_trust.client_options(url.host, source_ca_pem), endpoint)
    return endpoint


class _SizeLimited(ProtocolWrapper):
    """Aborts the connection when a response is longer than that of a probe can be."""

    received_bytes = 0
    max_bytes = MAX_RESPONSE_BYTES

    def dataReceived(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.received_bytes > self.max_bytes:
            transport: Any = self.transport
            transport.abortConnection()
        else:
            super().dataReceived(data)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _SingleEndpoint:
    """The same endpoint for every URI; keeps the connection so that it can be aborted."""

    def __init__(self, endpoint: IStreamClientEndpoint, max_bytes: int) -> None:
        self._endpoint = endpoint
        self._max_bytes = max_bytes
        self._connection: Any = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = WrappingFactory(protocolFactory)
        factory.protocol = _SizeLimited
        factory.noisy = False
        return self._endpoint.connect(factory).addCallback(self._connected)

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abortConnection()

    def _connected(self, wrapper: Any) -> IProtocol:
        wrapper.max_bytes = self._max_bytes
        self._connection = wrapper.transport
        inner: IProtocol = wrapper.wrappedProtocol
        return inner
