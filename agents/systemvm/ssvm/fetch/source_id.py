# SPDX-License-Identifier: Apache-2.0
"""Names what a job downloads and makes of it, so that a journal of something else is not continued."""

from __future__ import annotations

import hashlib

import msgspec

from systemvm.wire.storage import DownloadRequest


def source_id(request: DownloadRequest) -> str:
    """Return a digest of the URL, which can be secret, and of what decides about the content.

    Two links to one image differ in their URLs and have the same `content_id`.
    """
    parts = [request.content_id or request.url, request.format.value, request.checksum or ""]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
