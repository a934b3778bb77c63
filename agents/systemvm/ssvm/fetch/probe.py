# SPDX-License-Identifier: Apache-2.0
"""Asking a server for the first byte: whether it is there, how large the file is, where it moved.

A GET with a range and not HEAD, which signed URLs and many servers refuse. `Agent` is used by itself: treq
would ask for gzip and undo it, and Twisted's RedirectAgent resolves a second relative hop wrongly.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from attrs import frozen
from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet import error as network
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.client import URI, Agent, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from systemvm.ssvm import http_response
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import tls_trust
from systemvm.ssvm.fetch.address_policy import Address
from systemvm.ssvm.limits import KIB, TransferLimits
from systemvm.ssvm.mover.http_source import request_headers
from systemvm.wire.source_url import SourceUrl, SourceUrlError
from systemvm.wire.transfer_failure import TransferFailure

MAX_ANSWER_BYTES = 256 * KIB  # headers and the first of a body; Twisted itself would take 16 MB of headers


@frozen
class ProbeResult:
    """What a server said: where to go next, or how large the file is (None: it did not say)."""

    address: Address
    redirect: SourceUrl | None = None
    total_bytes: int | None = None


async def probe(
    reactor: Any, url: SourceUrl, addresses: list[Address], source_ca_pem: str | None, limits: TransferLimits
) -> ProbeResult:
    """Ask the first of `addresses` that takes the connection; TransferError when the answer is no file."""
    failed: TransferError | None = None
    for address in addresses:
        try:
            return await _probe_one(reactor, url, address, source_ca_pem, limits)
        except TransferError as error:
            if error.code not in (TransferFailure.CONNECTION_REFUSED, TransferFailure.CONNECTION_FAILED):
                raise
            failed = failed or error
    raise failed or TransferError(TransferFailure.NAME_NOT_FOUND, f"{url.host} has no address")


async def _probe_one(
    reactor: Any, url: SourceUrl, address: Address, source_ca_pem: str | None, limits: TransferLimits
) -> ProbeResult:
    pinned = _PinnedEndpoint(reactor, url, address, source_ca_pem, limits)
    agent = Agent.usingEndpointFactory(reactor, pinned)
    headers = Headers({name: [value] for name, value in request_headers(url.authority).items()})
    headers.setRawHeaders("Range", ["bytes=0-0"])
    asked = agent.request(b"GET", url.text.encode("ascii"), headers, None)
    asked.addTimeout(limits.headers_timeout_s, reactor)
    try:
        answer = await asked
    except Exception as error:
        raise _explain(error, url, address) from None
    finally:
        pinned.abort()  # neither a body nor another request is wanted on it
    return _judge(url, address, answer)


def _judge(url: SourceUrl, address: Address, answer: Any) -> ProbeResult:
    if answer.code in http_response.REDIRECTS:
        location = answer.headers.getRawHeaders(b"location", [b""])[0]
        try:
            return ProbeResult(address, redirect=url.follow(location))
        except SourceUrlError as error:
            raise TransferError.of_url(error) from None
    fields = {
        name.decode("latin-1").lower(): [value.decode("latin-1") for value in values]
        for name, values in answer.headers.getAllRawHeaders()
    }
    if answer.code == 416:  # nothing at byte 0
        http_response.require_size(0, 0)
    if answer.code != 206:
        http_response.require_status(answer.code, url.subject)
    if "content-length" not in fields and isinstance(answer.length, int):
        fields["content-length"] = [str(answer.length)]  # Twisted takes it out of the headers
    return ProbeResult(address, total_bytes=http_response.total_of_probe(answer.code, fields))


def _explain(error: Exception, url: SourceUrl, address: Address) -> TransferError:
    """One clear text for each way in which a connection can fail."""
    where = (
        f"{url.host} ({address}) port {url.port}" if url.address is None else f"{url.host} port {url.port}"
    )
    reasons: list[BaseException] = [error]
    while isinstance(reasons[-1], ResponseFailed) and reasons[-1].reasons:
        reasons.append(reasons[-1].reasons[0].value)
    cause = reasons[-1]
    if isinstance(cause, network.ConnectionRefusedError):
        return TransferError(
            TransferFailure.CONNECTION_REFUSED,
            f"connection refused by {where}",
            "check the URL, and that the server runs",
        )
    if isinstance(cause, network.TimeoutError | network.TCPTimedOutError):
        return TransferError(
            TransferFailure.CONNECTION_FAILED, f"{where} does not answer", "check the URL and the network"
        )
    if isinstance(cause, DeferredTimeout | CancelledError):
        return TransferError(TransferFailure.STALLED, f"{where} did not answer the request in time")
    if isinstance(cause, VerificationError):
        return TransferError(
            TransferFailure.TLS_FAILED,
            f"the certificate of {where} is for another name",
            "use the name that it is for",
        )
    if isinstance(cause, SSL.Error):
        words = (
            "; ".join(str(entry[-1]) for entry in cause.args[0]) if cause.args and cause.args[0] else "closed"
        )
        if "certificate verify failed" in words:
            return TransferError(
                TransferFailure.TLS_FAILED,
                f"the certificate of {where} does not hold: it is expired, or of no trusted authority",
                "hand its CA to the zone as source CA if it is your own",
            )
        return TransferError(TransferFailure.TLS_FAILED, f"TLS with {where} failed: {words[:200]}")
    if isinstance(cause, network.ConnectError):
        # its text may hold a whole Failure; the number says it in the system's words
        number = cause.osError if isinstance(cause.osError, int) else errno.EHOSTUNREACH
        return TransferError(
            TransferFailure.CONNECTION_FAILED,
            f"{where} cannot be reached: {os.strerror(number)}",
            "check the URL, and the routes of the public network",
        )
    if isinstance(cause, network.ConnectionDone | network.ConnectionLost | network.ConnectionAborted):
        return TransferError(
            TransferFailure.CONNECTION_LOST, f"{where} closed the connection without an answer"
        )
    return TransferError(
        TransferFailure.HTTP_INVALID, f"the answer of {where} is not HTTP: {type(cause).__name__}"
    )


class _Counted(ProtocolWrapper):
    """Cuts an answer off that is longer than any probe's needs to be."""

    received_bytes = 0

    def dataReceived(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.received_bytes > MAX_ANSWER_BYTES:
            transport: Any = self.transport
            transport.abortConnection()
        else:
            super().dataReceived(data)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _PinnedEndpoint:
    """Every connection of this agent goes to one address, whatever the name resolves to by now."""

    def __init__(
        self,
        reactor: Any,
        url: SourceUrl,
        address: Address,
        source_ca_pem: str | None,
        limits: TransferLimits,
    ) -> None:
        kind = TCP4ClientEndpoint if address.version == 4 else TCP6ClientEndpoint
        self._endpoint: IStreamClientEndpoint = kind(
            reactor, str(address), url.port, timeout=limits.connect_timeout_s
        )
        if url.is_tls:
            self._endpoint = wrapClientTLS(tls_trust.client_options(url.host, source_ca_pem), self._endpoint)
        self._connection: Any = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = WrappingFactory(protocolFactory)
        factory.protocol = _Counted
        factory.noisy = False
        return self._endpoint.connect(factory).addCallback(self._connected)

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abortConnection()

    def _connected(self, wrapper: Any) -> IProtocol:
        self._connection = wrapper.transport
        inner: IProtocol = wrapper.wrappedProtocol
        return inner
