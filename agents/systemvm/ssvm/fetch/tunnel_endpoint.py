# SPDX-License-Identifier: Apache-2.0
"""A Twisted endpoint behind an HTTP proxy: it connects to the proxy, and hands over an open tunnel."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.proxy_connect import ConnectResponse, connect_request
from systemvm.wire.source_access import SourceProxy
from systemvm.wire.source_url import SourceUrl


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to the server of `url` through `proxy`, which `endpoint` connects to."""

    def __init__(self, endpoint: IStreamClientEndpoint, url: SourceUrl, proxy: SourceProxy) -> None:
        self._endpoint = endpoint
        self._url = url
        self._proxy = proxy

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = Factory.forProtocol(
            lambda: _Tunnel(protocolFactory, connect_request(self._url, self._proxy), self._response())
        )
        factory.noisy = False

        def opened(tunnel: Any) -> Deferred[IProtocol]:
            waiting: Deferred[IProtocol] = tunnel.opened
            return waiting

        return self._endpoint.connect(factory).addCallback(opened)

    def _response(self) -> ConnectResponse:
        return ConnectResponse(self._url, self._proxy)


class _Tunnel(Protocol):
    """Speaks with the proxy until the tunnel is open, then passes everything to the inner protocol."""

    def __init__(self, factory: IProtocolFactory, request: bytes, response: ConnectResponse) -> None:
        self._inner_factory = factory
        self._request = request
        self._response = response
        self._inner: Any = None
        self.opened: Deferred[IProtocol] = Deferred(lambda _: self._abort())

    def connectionMade(self) -> None:
        self._transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        try:
            is_open = self._response.feed(data)
        except TransferError as error:
            self._fail(error)
            return
        if is_open and not self.opened.called:
            self._inner = self._inner_factory.buildProtocol(self._transport.getPeer())
            self._inner.makeConnection(self._transport)
            self.opened.callback(self._inner)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        else:
            self._fail(self._response.ended())

    @property
    def _transport(self) -> Any:
        return self.transport

    def _abort(self) -> None:
        self._transport.abortConnection()

    def _fail(self, error: TransferError) -> None:
        self._abort()
        if not self.opened.called:
            self.opened.errback(error)
