# SPDX-License-Identifier: Apache-2.0
"""The headers of a GET for an image, which are the same for fetch's probe and for the mover's transfer."""

from __future__ import annotations

USER_AGENT = "systemvm-ssvm"


def request_headers(authority: str) -> dict[str, str]:
    """Return headers that request the file as it is: lengths and checksums are those of the file itself."""
    return {
        "Host": authority,
        "User-Agent": USER_AGENT,
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
