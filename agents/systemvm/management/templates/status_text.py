# SPDX-License-Identifier: Apache-2.0
"""The `status` of a template in CloudStack's words, which clients compare (reference 5.5)."""

from __future__ import annotations

from systemvm.management.state.templates import StoreRef
from systemvm.wire.storage import DownloadState

#: Before the begin: clients regard any status that contains "Downloaded" as one in progress.
NOT_BEGUN = "0% Downloaded"


def status_text(ref: StoreRef | None, *, is_iso: bool) -> str:
    """Return the status, which is never empty: CloudStack's clients require the key."""
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
