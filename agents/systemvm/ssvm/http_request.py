# SPDX-License-Identifier: Apache-2.0
"""The headers of a GET for an image, which are the same for fetch's probe and for the mover's transfer."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from systemvm.wire.source_access import SourceCredentials

USER_AGENT = "systemvm-ssvm"


def request_headers(authority: str, authorization: str | None = None) -> dict[str, str]:
    """Return headers that request the file as it is: lengths and checksums are those of the file itself."""
    headers = {
        "Host": authority,
        "User-Agent": USER_AGENT,
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    return headers if authorization is None else {**headers, "Authorization": authorization}


def basic_authorization(login: SourceCredentials) -> str:
    """Return the value of Authorization or Proxy-Authorization (RFC 7617)."""
    pair = f"{login.username}:{login.password}".encode()
    return f"Basic {base64.b64encode(pair).decode('ascii')}"
