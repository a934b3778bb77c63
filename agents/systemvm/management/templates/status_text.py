# SPDX-License-Identifier: Apache-2.0
"""The `status` of a template in CloudStack's words, which clients compare (reference 5.5)."""

from __future__ import annotations

from systemvm.management.state.templates import StoreRef
from systemvm.wire.storage import DownloadState

#: Before the begin: clients regard any status that contains "Downloaded" as one in progress.
NOT_BEGUN = "0% Downloaded"
#: The state of a template whose upload has not begun; from then on its texts are those of a download.
NOT_UPLOADED = "NotUploaded"


def status_text(ref: StoreRef | None, *, is_iso: bool) -> str:
    """Return the status, which is never empty: CloudStack's clients require the key."""
    if ref is None:
        return NOT_BEGUN
    if ref.upload_id is not None and not ref.state.ended and not ref.has_begun:
        return NOT_UPLOADED
    match ref.state:
        case DownloadState.DOWNLOADED:
            return "Successfully Installed" if is_iso else "Download Complete"
        case DownloadState.DOWNLOAD_IN_PROGRESS if ref.percent >= 100:
            return "Installing ISO" if is_iso else "Installing Template"
        case DownloadState.DOWNLOAD_IN_PROGRESS:
            return f"{ref.percent}% Downloaded"
        case DownloadState.DOWNLOAD_ERROR:
            return ref.error_text or ("Download failed" if ref.upload_id is None else "Upload failed")
        case DownloadState.NOT_DOWNLOADED:
            return NOT_BEGUN


def shown_state(ref: StoreRef) -> str:
    """Return CloudStack's name of a copy's state (VMTemplateStorageResourceAssoc.java)."""
    if ref.upload_id is None:
        return ref.state.value
    if not ref.state.ended:
        return "UPLOAD_IN_PROGRESS" if ref.has_begun else "NOT_UPLOADED"
    return "UPLOADED" if ref.state is DownloadState.DOWNLOADED else "UPLOAD_ERROR"
