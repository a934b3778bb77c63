# SPDX-License-Identifier: Apache-2.0
"""Names what a job downloads and makes of it, so that a journal of something else is not continued."""

from __future__ import annotations

import hashlib

import msgspec

from systemvm.wire.storage import DownloadRequest


def source_id(request: DownloadRequest) -> str:
    """Return a digest of the user's URL, which can be secret, and of what decides about the content."""
    parts = [request.url, request.format.value, request.checksum or ""]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
