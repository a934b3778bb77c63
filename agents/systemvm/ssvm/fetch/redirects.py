# SPDX-License-Identifier: Apache-2.0
"""Follows the redirects of a URL to the file: each hop is resolved and checked as the first one was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import Address, AddressPolicy
from systemvm.ssvm.fetch.probe import probe
from systemvm.ssvm.fetch.resolve import resolve
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure


@frozen
class DownloadSource:
    """Where the bytes are, after all redirects; `total_bytes` is None when it is not announced."""

    url: SourceUrl
    address: Address
    total_bytes: int | None


@frozen
class RedirectPolicy:
    """What one download permits: which addresses, which CA, and whether a checksum protects it over http."""

    addresses: AddressPolicy
    source_ca_pem: str | None
    has_checksum: bool


async def find_source(
    reactor: Any,
    first: SourceUrl,
    policy: RedirectPolicy,
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
        addresses = await resolve(reactor, here, policy.addresses, limits)
        probed = await probe(reactor, here, addresses, policy.source_ca_pem, limits)
        if probed.redirect is None:
            return DownloadSource(here, probed.address, probed.total_bytes)
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
