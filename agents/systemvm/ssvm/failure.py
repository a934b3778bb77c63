# SPDX-License-Identifier: Apache-2.0
"""Why a transfer ended: stable codes with a message for people and a hint, in every kind of process."""

from __future__ import annotations

import errno

from systemvm.rpc.core.errors import REFUSED, RpcError
from systemvm.service import host_errors
from systemvm.service.errors import SystemVmError
from systemvm.wire.source_url import SourceUrlError
from systemvm.wire.storage import DownloadError
from systemvm.wire.transfer_failure import TransferFailure


class TransferError(SystemVmError):
    """The end of a job, or a refusal to begin one."""

    def __init__(self, code: TransferFailure, message: str, hint: str = "") -> None:
        super().__init__(message, hint, code=code)
        self.code: TransferFailure = code
        self.retry_after_s: float | None = None  # the server's own demand (RFC 9110, 10.2.3)

    def __str__(self) -> str:
        return f"{self.message} ({self.code.value})"

    def to_download_error(self) -> DownloadError:
        return DownloadError(self.code.value, self.message, self.hint)

    def to_rpc(self) -> RpcError:
        return RpcError.refused(self.code, self.message, self.hint)

    @classmethod
    def from_parts(cls, code: str, message: str, hint: str = "") -> TransferError:
        """Read one that crossed a process boundary; an unknown code is kept in the message."""
        try:
            return cls(TransferFailure(code), message, hint)
        except ValueError:
            return cls(TransferFailure.INTERNAL, f"{message} ({code})", hint)

    @classmethod
    def of_url(cls, error: SourceUrlError) -> TransferError:
        return cls(error.code, error.message, error.hint)

    @classmethod
    def from_rpc(cls, error: RpcError) -> TransferError:
        if error.code == REFUSED and error.reason:
            return cls.from_parts(error.reason, error.message, error.hint)
        return cls(TransferFailure.INTERNAL, error.message, error.hint)


def of_this_vm(error: BaseException | None) -> TransferError:
    """Return the error for an unexpected exception: the fault of this machine if there is one."""
    described = host_errors.explain(error)
    if described is not None:
        return TransferError(TransferFailure.INTERNAL, f"SSVM failed: {described.message}", described.hint)
    return TransferError(
        TransferFailure.INTERNAL,
        "a program of the SSVM failed unexpectedly",
        "retry the template; read the journal of the SSVM for the cause",
    )


def of_store(error: OSError, doing: str) -> TransferError:
    """Return the error for a failed file operation on a store."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        quota = " by its quota" if error.errno == errno.EDQUOT else ""
        return TransferError(
            TransferFailure.STORE_FULL,
            f"secondary storage is full{quota}: {doing}",
            "free space on the store or add another one, then retry the template",
        )
    if error.errno in (errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return of_this_vm(error)
    if error.errno == errno.EFBIG:
        return TransferError(TransferFailure.TOO_LARGE, f"image is larger than its size limit: {doing}")
    why = error.strerror or type(error).__name__
    hints = {
        errno.EROFS: "export it rw: the export is read-only",
        errno.EACCES: "export it rw,no_root_squash: the export refuses writes of root",
        errno.EPERM: "export it rw,no_root_squash: the export refuses writes of root",
        errno.ESTALE: "mount the store again: the server has lost the export",
        errno.EIO: "check the NFS server and the storage network: it does not answer",
        errno.ETIMEDOUT: "check the NFS server and the storage network: it does not answer",
    }
    return TransferError(
        TransferFailure.STORE_FAILED,
        f"secondary storage failed: {doing}: {why}",
        hints.get(error.errno or 0, ""),
    )
