# SPDX-License-Identifier: Apache-2.0
"""The zone's proxy for a download: that of the request, or of the boot arguments."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from systemvm.wire.source_access import parse_proxy
from systemvm.wire.storage import DownloadRequest


def with_proxy(request: DownloadRequest, boot: Mapping[str, str]) -> DownloadRequest:
    """Return the request with the proxy of `fetch_proxy=` when it names none itself.

    Boot arguments are read by others, so they have no login; preinit has refused an invalid one.
    """
    text = boot.get("fetch_proxy", "")
    if not text or request.access.proxy is not None:
        return request
    return evolve(request, access=evolve(request.access, proxy=parse_proxy(text)))
