# SPDX-License-Identifier: Apache-2.0
"""Follows the redirects of a URL to the file: each hop is resolved and checked as the first one was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import field, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.probe import ProbeResult, probe
from systemvm.ssvm.fetch.route import SourceRoute, find_routes
from systemvm.ssvm.fetch.source import DownloadSource, SourcePolicy
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure

R = TypeVar("R")


@frozen
class Hop:
    """A URL on the way to a file, with the permitted routes to it and the login that it gets."""

    url: SourceUrl
    routes: list[SourceRoute]
    authorization: str | None = field(default=None, repr=False)


@frozen
class HopObserver:
    """What is called on the way: before each request, and for each redirect."""

    on_probe: Callable[[SourceUrl], None] = lambda url: None
    on_redirect: Callable[[SourceUrl, SourceUrl], None] = lambda here, target: None


async def find_source(
    reactor: Any, first: SourceUrl, policy: SourcePolicy, limits: TransferLimits, observer: HopObserver
) -> DownloadSource:
    """Return where `first` leads.

    Raises: TransferError when a hop is forbidden or fails, or when there are too many of them.
    """

    async def request(hop: Hop) -> ProbeResult | SourceUrl:
        probed = await probe(reactor, hop.url, hop.routes, policy.source_ca_pem, limits, hop.authorization)
        return probed if probed.redirect is None else probed.redirect

    hop, found = await follow(reactor, first, policy, limits, observer, request)
    return DownloadSource(
        hop.url, found.route, found.total_bytes, hop.authorization, policy.source_ca_pem, found.mirrors
    )


async def follow(
    reactor: Any,
    first: SourceUrl,
    policy: SourcePolicy,
    limits: TransferLimits,
    observer: HopObserver,
    request: Callable[[Hop], Awaitable[R | SourceUrl]],
) -> tuple[Hop, R]:
    """Call `request` for `first`, and for each URL that it returns; return the last hop and its result.

    Raises: TransferError when a hop is forbidden or fails, or when there are too many of them.
    """
    here = first
    for hops_left in range(limits.max_redirects, -1, -1):
        observer.on_probe(here)
        routes = await find_routes(reactor, here, policy.addresses, policy.access.proxy, limits)
        hop = Hop(here, routes, policy.authorization(here))
        found = await request(hop)
        if not isinstance(found, SourceUrl):
            return hop, found
        if not hops_left:
            break
        require_secure_hop(here, found, policy.has_checksum)
        observer.on_redirect(here, found)
        here = found
    raise TransferError(
        TransferFailure.REDIRECTS,
        f"URL redirects too often: more than {limits.max_redirects} times",
        "check the URL",
    )


def require_secure_hop(here: SourceUrl, target: SourceUrl, has_checksum: bool) -> None:
    """Check that a redirect keeps the image protected.

    Raises: TransferError when a redirect leaves TLS and no checksum would reveal a forged image.
    """
    if here.is_tls and not target.is_tls and not has_checksum:
        raise TransferError(
            TransferFailure.REDIRECTS,
            "URL redirects from https to http",
            "register it with a checksum, which reveals a forged image",
        )
