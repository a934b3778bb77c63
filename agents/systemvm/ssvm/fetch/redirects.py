# SPDX-License-Identifier: Apache-2.0
"""Follows the redirects of a URL to the file: each hop is resolved and checked as the first one was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.probe import probe
from systemvm.ssvm.fetch.route import find_routes
from systemvm.ssvm.fetch.source import DownloadSource, SourcePolicy
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure


async def find_source(
    reactor: Any,
    first: SourceUrl,
    policy: SourcePolicy,
    limits: TransferLimits,
    on_probe: Callable[[SourceUrl], None],
    on_redirect: Callable[[SourceUrl, SourceUrl], None],
) -> DownloadSource:
    """Return where `first` leads; `on_probe` is called before each request, `on_redirect` for each hop.

    Raises: TransferError when a hop is forbidden or fails, or when there are too many of them.
    """
    here = first
    for hops_left in range(limits.max_redirects, -1, -1):
        on_probe(here)
        routes = await find_routes(reactor, here, policy.addresses, policy.access.proxy, limits)
        authorization = policy.authorization(first, here)
        probed = await probe(reactor, here, routes, policy.source_ca_pem, limits, authorization)
        if probed.redirect is None:
            return DownloadSource(here, probed.route, probed.total_bytes, authorization)
        if not hops_left:
            break
        require_secure_hop(here, probed.redirect, policy.has_checksum)
        on_redirect(here, probed.redirect)
        here = probed.redirect
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
