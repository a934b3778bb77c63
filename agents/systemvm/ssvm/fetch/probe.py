# SPDX-License-Identifier: Apache-2.0
"""Requests the first byte of a file: whether the server has it, how large it is, and where it moved.

A GET with a range and not HEAD, which signed URLs and many servers refuse. treq follows no redirect here:
each hop is resolved and checked before it is connected to (see `redirects`).
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from treq.client import HTTPClient
from twisted.web.http_headers import Headers

from systemvm.ssvm import http_response
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.connection_failure import explain_failure
from systemvm.ssvm.fetch.link_header import duplicates
from systemvm.ssvm.fetch.pinned_agent import TREQ_URL, PinnedAgent, ResponseHead, pinned_endpoint
from systemvm.ssvm.fetch.route import SourceRoute
from systemvm.ssvm.http_request import request_headers
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.source_url import SourceUrl, SourceUrlError
from systemvm.wire.transfer_failure import TransferFailure


@frozen
class ProbeResult:
    """Where the server redirects to, or how large the file is; None: the server does not announce it."""

    route: SourceRoute
    redirect: SourceUrl | None = None
    total_bytes: int | None = None
    mirrors: tuple[SourceUrl, ...] = ()


async def probe(
    reactor: Any,
    url: SourceUrl,
    routes: list[SourceRoute],
    source_ca_pem: str | None,
    limits: TransferLimits,
    authorization: str | None = None,
) -> ProbeResult:
    """Probe over the first of `routes` that accepts the connection.

    Raises: TransferError when none does, or when the response is neither a file nor a redirect.
    """
    failed: TransferError | None = None
    for route in routes:
        try:
            return await _probe_one(reactor, url, route, source_ca_pem, limits, authorization)
        except TransferError as error:
            if error.code not in (TransferFailure.CONNECTION_REFUSED, TransferFailure.CONNECTION_FAILED):
                raise
            failed = failed or error
    raise failed or TransferError(TransferFailure.NAME_NOT_FOUND, f"{url.host} has no address")


async def _probe_one(
    reactor: Any,
    url: SourceUrl,
    route: SourceRoute,
    source_ca_pem: str | None,
    limits: TransferLimits,
    authorization: str | None,
) -> ProbeResult:
    agent = PinnedAgent(reactor, url, pinned_endpoint(reactor, url, route, source_ca_pem, limits))
    try:
        head = await request_head(reactor, agent, url, limits.headers_timeout_s, authorization)
    except Exception as error:
        raise explain_failure(error, url, route) from None
    finally:
        agent.abort()  # neither a body nor another request follows on this connection
    return _read_result(url, route, head)


async def request_head(
    reactor: Any, agent: PinnedAgent, url: SourceUrl, timeout_s: float, authorization: str | None = None
) -> ResponseHead:
    """Send the probe and return the head of its response; exceptions are Twisted's."""
    headers = {**request_headers(url.authority, authorization), "Range": "bytes=0-0"}
    requested = HTTPClient(agent).request(
        "GET",
        TREQ_URL,
        headers=Headers({name: [value] for name, value in headers.items()}),
        allow_redirects=False,
        unbuffered=True,  # the body is not read
        reactor=reactor,
    )
    await requested.addTimeout(timeout_s, reactor)
    if agent.head is None:
        raise RuntimeError("treq returned a response that its agent did not receive")
    return agent.head


def _read_result(url: SourceUrl, route: SourceRoute, head: ResponseHead) -> ProbeResult:
    if head.status in http_response.REDIRECTS:
        try:
            return ProbeResult(route, redirect=url.follow(head.location()))
        except SourceUrlError as error:
            raise TransferError.of_url(error) from None
    if head.status == 416:  # there is no byte 0
        http_response.require_size(0, 0)
    if head.status != 206:
        http_response.require_status(head.status, url.subject, head.headers)
    total = http_response.total_of_probe(head.status, head.headers)
    return ProbeResult(route, total_bytes=total, mirrors=duplicates(head.headers))
