# SPDX-License-Identifier: Apache-2.0
"""The `status` of a template in CloudStack's words, which clients compare (reference 5.5)."""

from __future__ import annotations

from systemvm.management.state.templates import StoreRef
from systemvm.wire.storage import DownloadState

#: While nothing has begun: clients take any status with "Downloaded" in it for one that goes on.
NOT_BEGUN = "0% Downloaded"


def status_text(ref: StoreRef | None, *, is_iso: bool) -> str:
    """Never empty: CloudStack's clients read the key without asking whether it is there."""
    if ref is None:
        return NOT_BEGUN
    match ref.state:
        case DownloadState.DOWNLOADED:
            return "Successfully Installed" if is_iso else "Download Complete"
        case DownloadState.DOWNLOAD_IN_PROGRESS if ref.percent >= 100:
            return "Installing ISO" if is_iso else "Installing Template"
        case DownloadState.DOWNLOAD_IN_PROGRESS:
            return f"{ref.percent}% Downloaded"
        case DownloadState.DOWNLOAD_ERROR:
            return ref.error_text or "Download failed"
        case DownloadState.NOT_DOWNLOADED:
            return NOT_BEGUN
