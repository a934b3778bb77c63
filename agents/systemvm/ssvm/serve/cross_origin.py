# SPDX-License-Identifier: Apache-2.0
"""Headers by which a browser lets the management page upload to an SSVM (CORS, Fetch standard). Sans-IO."""

from __future__ import annotations

from collections.abc import Sequence

METHODS = "POST, PATCH, HEAD, DELETE, OPTIONS"
#: CloudStack's, and those of tus.
REQUEST_HEADERS = (
    "x-requested-with, content-type, origin, authorization, accept, client-security-token, x-signature,"
    " x-metadata, x-expires, tus-resumable, upload-length, upload-offset, upload-metadata, upload-checksum,"
    " upload-defer-length, x-http-method-override"
)
RESPONSE_HEADERS = (
    "Location, Retry-After, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm,"
    " Upload-Offset, Upload-Length, Upload-Defer-Length"
)
MAX_AGE_S = 600


def response_headers(origin: str, allowed: Sequence[str]) -> list[tuple[str, str]]:
    """Return what lets a page at `origin` read the response; a page elsewhere cannot read it.

    >>> response_headers("https://other.example", ["https://cloud.example"])
    [('Vary', 'Origin')]
    """
    if not origin or origin not in allowed:
        return [("Vary", "Origin")]
    return [
        ("Vary", "Origin"),
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", RESPONSE_HEADERS),
    ]


def preflight_headers(
    origin: str, allowed: Sequence[str], *, to_private_network: bool
) -> list[tuple[str, str]]:
    """Return the answer to a preflight; a page elsewhere is not told what it could do."""
    headers = response_headers(origin, allowed)
    if len(headers) == 1:
        return headers
    headers += [
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Allow-Headers", REQUEST_HEADERS),
        ("Access-Control-Max-Age", str(MAX_AGE_S)),
    ]
    if to_private_network:  # a page of a public network, and an SSVM on a private one
        headers.append(("Access-Control-Allow-Private-Network", "true"))
    return headers
