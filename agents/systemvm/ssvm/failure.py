# SPDX-License-Identifier: Apache-2.0
"""Why a transfer ended: stable codes with a message for people and a hint, in every kind of process."""

from __future__ import annotations

import enum
import errno

from systemvm.rpc.core.errors import REFUSED, RpcError
from systemvm.service import host_errors
from systemvm.wire import checksum
from systemvm.wire.slowness import Delay
from systemvm.wire.storage import DownloadError


class Code(enum.Enum):
    """Stable codes of `DownloadError`; programs compare them, so they are never renamed."""

    URL_INVALID = "url_invalid"
    URL_DENIED = "url_denied"  # leads, at first or by redirect, where this VM must not go
    NAME_NOT_FOUND = "name_not_found"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_LOST = "connection_lost"
    TLS_FAILED = "tls_failed"
    HTTP_STATUS = "http_status"
    HTTP_UNAVAILABLE = "http_unavailable"  # a status that says "not now"
    HTTP_INVALID = "http_invalid"
    REDIRECTS = "redirects"
    CONTENT_ENCODING = "content_encoding"
    LENGTH_UNKNOWN = "length_unknown"
    LENGTH_WRONG = "length_wrong"
    TRUNCATED = "truncated"
    SOURCE_CHANGED = "source_changed"  # what broke off cannot be gone on with: it is another file by now
    STALLED = "stalled"
    TOO_LARGE = "too_large"
    CHECKSUM_INVALID = checksum.CHECKSUM_INVALID
    CHECKSUM_MISMATCH = "checksum_mismatch"
    DECOMPRESSION = "decompression"
    MEMORY_LIMIT = "memory_limit"  # decompression needs more memory than a job may have
    FORMAT_MISMATCH = "format_mismatch"
    FORMAT_UNSAFE = "format_unsafe"
    FORMAT_DAMAGED = "format_damaged"
    STORE_FULL = "store_full"
    STORE_FAILED = "store_failed"
    STORE_HANGS = Delay.STORE_HANGS.value
    STORE_REFUSES = Delay.STORE_REFUSES.value
    STORE_UNREACHABLE = Delay.STORE_UNREACHABLE.value
    STORE_NOT_MOUNTED = "store_not_mounted"
    MOUNT_FAILED = "mount_failed"
    REQUEST_INVALID = "request_invalid"
    BUSY = Delay.BUSY.value
    ABORTED = "aborted"
    WORKER_DIED = "worker_died"
    INTERNAL = "internal"

    @property
    def is_retryable(self) -> bool:
        """Whether the network or the server's load is to blame, so that the next attempt may succeed."""
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        Code.CONNECTION_REFUSED,
        Code.CONNECTION_FAILED,
        Code.CONNECTION_LOST,
        Code.HTTP_UNAVAILABLE,
        Code.NAME_NOT_FOUND,
        Code.STALLED,
        Code.TRUNCATED,
    }
)


class TransferError(Exception):
    """The end of a job, or a refusal to begin one."""

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.code.value})"

    def to_download_error(self) -> DownloadError:
        return DownloadError(self.code.value, self.message, self.hint)

    def to_rpc(self) -> RpcError:
        return RpcError.refused(self.code.value, self.message, self.hint)

    @classmethod
    def from_parts(cls, code: str, message: str, hint: str = "") -> TransferError:
        """Read one that crossed a process boundary; an unknown code is kept in the message."""
        try:
            return cls(Code(code), message, hint)
        except ValueError:
            return cls(Code.INTERNAL, f"{message} ({code})", hint)

    @classmethod
    def from_rpc(cls, error: RpcError) -> TransferError:
        if error.code == REFUSED and error.reason:
            return cls.from_parts(error.reason, error.message, error.hint)
        return cls(Code.INTERNAL, error.message, error.hint)


def of_this_vm(error: BaseException | None) -> TransferError:
    """What nobody foresaw: the SSVM's own trouble where it is known, and else a word about where to look."""
    trouble = host_errors.explain(error)
    if trouble is not None:
        return TransferError(Code.INTERNAL, f"the SSVM cannot do it: {trouble.message}", trouble.hint)
    return TransferError(
        Code.INTERNAL, "a program of the SSVM broke down", "the SSVM's journal says more; retry the template"
    )


def of_store(error: OSError, doing: str) -> TransferError:
    """What a file operation on a store that failed means to the person who registered a template."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        quota = " by its quota" if error.errno == errno.EDQUOT else ""
        return TransferError(
            Code.STORE_FULL,
            f"secondary storage is full{quota}: {doing}",
            "free space on the store or add another one, then retry the template",
        )
    if error.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return of_this_vm(error)
    if error.errno == errno.EFBIG:
        return TransferError(Code.TOO_LARGE, f"the image grew past its size limit: {doing}")
    why = error.strerror or type(error).__name__
    hints = {
        errno.EROFS: "the export is read-only; export it rw",
        errno.EACCES: "the export refuses root's writes; export it rw,no_root_squash",
        errno.EPERM: "the export refuses root's writes; export it rw,no_root_squash",
        errno.ESTALE: "the server forgot the export; mount the store again",
        errno.EIO: "the NFS server does not answer; check it and the storage network",
        errno.ETIMEDOUT: "the NFS server does not answer; check it and the storage network",
    }
    return TransferError(
        Code.STORE_FAILED, f"secondary storage failed: {doing}: {why}", hints.get(error.errno or 0, "")
    )
