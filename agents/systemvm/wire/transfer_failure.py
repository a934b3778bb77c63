# SPDX-License-Identifier: Apache-2.0
"""Why a transfer ended: the codes of `DownloadError.code` and of the refusals of an SSVM's processes."""

from __future__ import annotations

import enum

from systemvm.wire.slowness import Delay
from systemvm.wire.store_failure import StoreFailure


class TransferFailure(enum.Enum):
    """Stable codes: programs compare them, so they are never renamed."""

    URL_INVALID = "url_invalid"
    URL_DENIED = "url_denied"  # leads, at first or by redirect, to an address that this VM must not reach
    NAME_NOT_FOUND = "name_not_found"
    NAME_SERVER_FAILED = "name_server_failed"  # none answers, so the name can exist
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_LOST = "connection_lost"
    PROXY_REFUSED = "proxy_refused"
    TLS_FAILED = "tls_failed"
    HTTP_STATUS = "http_status"
    HTTP_UNAVAILABLE = "http_unavailable"  # a status that means "not now"
    HTTP_INVALID = "http_invalid"
    REDIRECTS = "redirects"
    CONTENT_ENCODING = "content_encoding"
    LENGTH_UNKNOWN = "length_unknown"
    LENGTH_WRONG = "length_wrong"
    TRUNCATED = "truncated"
    SOURCE_CHANGED = "source_changed"  # the rest cannot be fetched: the URL leads to another file by now
    SOURCE_MISSING = "source_missing"  # the file that is to be copied is not on its store
    STALLED = "stalled"
    UPLOAD_EXPIRED = "upload_expired"  # it did not begin in time
    UPLOAD_LOST = "upload_lost"  # its SSVM was destroyed, or is away for too long
    UPLOAD_BROKEN = "upload_broken"  # the one request that brought the file ended before it
    TOO_LARGE = "too_large"
    CHECKSUM_INVALID = "checksum_invalid"  # no file can have this checksum
    SIGNATURE_INVALID = "signature_invalid"  # of a checksum file
    METALINK_INVALID = "metalink_invalid"
    MANIFEST_INVALID = "manifest_invalid"  # of an image in a registry
    CHECKSUM_MISMATCH = "checksum_mismatch"
    PIECE_DAMAGED = "piece_damaged"  # a part of the file, which another mirror or attempt can bring right
    DECOMPRESSION = "decompression"
    ARCHIVE_REFUSED = "archive_refused"  # a zip that is encrypted, or is not one plain file
    MEMORY_LIMIT = "memory_limit"  # decompression needs more memory than a job may have
    FORMAT_MISMATCH = "format_mismatch"
    FORMAT_UNSAFE = "format_unsafe"
    FORMAT_DAMAGED = "format_damaged"
    QUOTA_EXCEEDED = "quota_exceeded"  # the account's limit of secondary storage
    STORE_FULL = StoreFailure.FULL.value
    STORE_FAILED = StoreFailure.FAILED.value
    STORE_HANGS = StoreFailure.HANGS.value
    STORE_REFUSES = StoreFailure.REFUSES.value
    STORE_UNREACHABLE = StoreFailure.UNREACHABLE.value
    STORE_NOT_MOUNTED = StoreFailure.NOT_MOUNTED.value
    MOUNT_FAILED = StoreFailure.MOUNT_FAILED.value
    REQUEST_INVALID = "request_invalid"
    BUSY = Delay.BUSY.value
    ABORTED = "aborted"
    WORKER_DIED = "worker_died"
    INTERNAL = "internal"
    LOST = "lost"  # a Ready template is no longer on its store

    @property
    def is_retryable(self) -> bool:
        """Whether the network or the server's load is to blame, so that the next attempt can succeed."""
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        TransferFailure.CONNECTION_REFUSED,
        TransferFailure.CONNECTION_FAILED,
        TransferFailure.CONNECTION_LOST,
        TransferFailure.HTTP_UNAVAILABLE,
        TransferFailure.NAME_NOT_FOUND,
        TransferFailure.NAME_SERVER_FAILED,
        TransferFailure.PIECE_DAMAGED,
        TransferFailure.STALLED,
        TransferFailure.TRUNCATED,
    }
)
