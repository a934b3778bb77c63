# SPDX-License-Identifier: Apache-2.0
"""Downloads a small document about images: a checksum file, a Metalink, a manifest of a registry.

It passes the same policy as an image at every hop, and is bounded in size and time.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from treq.client import HTTPClient
from treq.content import collect
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from systemvm.ssvm import http_response
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.connection_failure import explain_failure
from systemvm.ssvm.fetch.pinned_agent import TREQ_URL, PinnedAgent, ResponseHead, pinned_endpoint
from systemvm.ssvm.fetch.redirects import Hop, HopObserver, follow
from systemvm.ssvm.fetch.route import SourceRoute
from systemvm.ssvm.fetch.source import SourcePolicy
from systemvm.ssvm.http_request import request_headers
from systemvm.ssvm.limits import KIB, MIB, TransferLimits
from systemvm.wire.source_url import SourceUrl, SourceUrlError
from systemvm.wire.transfer_failure import TransferFailure

MAX_DOCUMENT_BYTES = 1 * MIB
_MAX_HEAD_BYTES = 64 * KIB
_CONNECTION_FAILURES = (TransferFailure.CONNECTION_REFUSED, TransferFailure.CONNECTION_FAILED)


@frozen
class SourceDocument:
    """The body, and the URL that sent it after all redirects."""

    url: SourceUrl
    head: ResponseHead
    body: bytes = field(repr=False)
    was_always_tls: bool = False  # on every hop


@frozen
class DocumentReader:
    """Reads documents for one download."""

    reactor: Any
    policy: SourcePolicy
    limits: TransferLimits
    observer: HopObserver = field(factory=HopObserver)

    async def read(
        self,
        url: SourceUrl,
        *,
        policy: SourcePolicy | None = None,
        accept: str = "*/*",
        statuses: frozenset[int] = frozenset({200}),
        max_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> SourceDocument:
        """Return the document at `url`.

        Raises: TransferError when it cannot be downloaded, is too long, or has a status not in `statuses`.
        """
        used = policy or self.policy
        is_tls: list[bool] = []

        async def request(hop: Hop) -> tuple[ResponseHead, bytes] | SourceUrl:
            is_tls.append(hop.url.is_tls)
            head, body = await self._request(hop, used, accept, max_bytes)
            if head.status in http_response.REDIRECTS:
                try:
                    return hop.url.follow(head.location())
                except SourceUrlError as error:
                    raise TransferError.of_url(error) from None
            if head.status not in statuses:
                http_response.require_status(head.status, hop.url.subject)
            return head, body

        hop, (head, body) = await follow(self.reactor, url, used, self.limits, self.observer, request)
        return SourceDocument(hop.url, head, body, all(is_tls))

    async def _request(
        self, hop: Hop, policy: SourcePolicy, accept: str, max_bytes: int
    ) -> tuple[ResponseHead, bytes]:
        failed: TransferError | None = None
        for route in hop.routes:
            try:
                return await self._request_over(route, hop, policy, accept, max_bytes)
            except TransferError as error:
                if error.code not in _CONNECTION_FAILURES:
                    raise
                failed = failed or error
        raise failed or TransferError(TransferFailure.NAME_NOT_FOUND, f"{hop.url.host} has no address")

    async def _request_over(
        self, route: SourceRoute, hop: Hop, policy: SourcePolicy, accept: str, max_bytes: int
    ) -> tuple[ResponseHead, bytes]:
        endpoint = pinned_endpoint(self.reactor, hop.url, route, policy.source_ca_pem, self.limits)
        agent = PinnedAgent(self.reactor, hop.url, endpoint, max_bytes + _MAX_HEAD_BYTES)
        receiving = Deferred.fromCoroutine(_receive(self.reactor, agent, hop, accept, max_bytes))
        receiving.addTimeout(self.limits.headers_timeout_s, self.reactor)
        try:
            return await receiving
        except TransferError:
            raise
        except Exception as error:
            raise explain_failure(error, hop.url, route) from None
        finally:
            agent.abort()


async def _receive(
    reactor: Any, agent: PinnedAgent, hop: Hop, accept: str, max_bytes: int
) -> tuple[ResponseHead, bytes]:
    headers = {**request_headers(hop.url.authority, hop.authorization), "Accept": accept}
    response = await HTTPClient(agent).request(
        "GET",
        TREQ_URL,
        headers=Headers({name: [value] for name, value in headers.items()}),
        allow_redirects=False,
        unbuffered=True,
        reactor=reactor,
    )
    if agent.head is None:
        raise RuntimeError("treq returned a response that its agent did not receive")
    if agent.head.status in http_response.REDIRECTS:
        return agent.head, b""
    body = http_response.read_body(agent.head.headers)
    if body.encoding is not None:
        raise TransferError(
            TransferFailure.CONTENT_ENCODING,
            f"{hop.url.origin} encodes a document as {body.encoding}, which was not requested",
            "serve the file as it is",
        )
    received = bytearray()

    def take(data: bytes) -> None:
        received.extend(data)
        if len(received) > max_bytes:
            raise _too_long(hop.url, max_bytes)

    if (body.length_bytes or 0) > max_bytes:
        raise _too_long(hop.url, max_bytes)
    await collect(response, take)
    return agent.head, bytes(received)


def _too_long(url: SourceUrl, max_bytes: int) -> TransferError:
    return TransferError(
        TransferFailure.TOO_LARGE,
        f"document of {url.origin} is longer than {max_bytes} bytes",
        f"check the {url.subject}",
    )
