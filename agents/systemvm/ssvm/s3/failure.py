# SPDX-License-Identifier: Apache-2.0
"""What an S3 server refused, and why: its code decides whether to repeat, to begin again or to give up."""

from __future__ import annotations

import re

from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,63}")
_CREDENTIALS_HINT = "check accesskey, secretkey and bucket of the image store, and the policy of the bucket"
_REFUSALS = {
    "AccessDenied": _CREDENTIALS_HINT,
    "InvalidAccessKeyId": _CREDENTIALS_HINT,
    "SignatureDoesNotMatch": _CREDENTIALS_HINT,
    "AuthorizationHeaderMalformed": "set the region of the image store to that of the bucket",
    "RequestTimeTooSkewed": "set the clock of the S3 server or of the host: they differ by minutes",
    "NoSuchBucket": "create the bucket, or correct the bucket of the image store",
}
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "EntityTooLarge", "XMinioStorageFull"})
#: The server is at fault for the moment, or the bytes were damaged on their way to it.
_TRANSIENT = frozenset(
    {
        "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted", "Busy",
        "TooManyRequests", "BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "ThrottlingException",
    }
)  # fmt: skip
_MISSING = frozenset({"NoSuchKey", "NoSuchUpload"})
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class S3Error(TransferError):
    """An answer of an S3 server that is not the requested one; `s3_code` is the server's, or empty."""

    def __init__(
        self, code: TransferFailure, message: str, hint: str = "", *, s3_code: str = "", status: int = 0
    ) -> None:
        super().__init__(code, message, hint)
        self.s3_code = s3_code
        self.status = status

    @property
    def is_transient(self) -> bool:
        """Whether the same request can succeed later."""
        return self.s3_code in _TRANSIENT or (not self.s3_code and self.status in _TRANSIENT_STATUS)

    @property
    def is_missing(self) -> bool:
        """Whether the object or the upload does not exist."""
        return self.s3_code in _MISSING or (not self.s3_code and self.status == 404)


def of_answer(doing: str, status: int, s3_code: str | None) -> S3Error:
    """Return the error for an answer; `doing` completes "S3 server refused …"."""
    known = s3_code if s3_code is not None and _CODE.fullmatch(s3_code) else ""
    reason = f"{known or 'no reason given'} (status {status})"
    if known in _FULL or status in (413, 507):
        return S3Error(
            TransferFailure.STORE_FULL,
            f"S3 store is full: {doing}: {reason}",
            "raise the quota of the bucket or add another image store, then retry the template",
            s3_code=known,
            status=status,
        )
    if known in _REFUSALS or status in (401, 403):
        code, hint = TransferFailure.STORE_REFUSES, _REFUSALS.get(known, _CREDENTIALS_HINT)
    else:
        code, hint = TransferFailure.STORE_FAILED, "read the log of the S3 server"
    return S3Error(code, f"S3 server refused {doing}: {reason}", hint, s3_code=known, status=status)


def invalid(doing: str, why: str, status: int = 0) -> S3Error:
    """Return the error for an answer that is not S3's."""
    return S3Error(
        TransferFailure.STORE_FAILED,
        f"answer of the S3 server to {doing} is not valid: {why}",
        "check the endpoint of the image store: another server can answer there",
        status=status,
    )
