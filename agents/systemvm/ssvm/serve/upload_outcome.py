# SPDX-License-Identifier: Apache-2.0
"""Status codes and texts of the answers to uploads: CloudStack's for forms, those of tus else. Sans-IO."""

from __future__ import annotations

from attrs import field, frozen

from systemvm.ssvm.serve.upload_table import ALREADY_USED, NOT_VALID_ANYMORE, SUCCESSFUL
from systemvm.ssvm.upload_messages import UploadAnswer, UploadEnd, UploadRefusal
from systemvm.wire.transfer_failure import TransferFailure

RETRY_AFTER_S = 5
_RETRY = ("Retry-After", str(RETRY_AFTER_S))


@frozen
class Outcome:
    code: int
    text: str = ""
    headers: list[tuple[str, str]] = field(factory=list)


NOT_NOW = Outcome(503, "the upload cannot be received now; try again later", [_RETRY])

#: Failures for which the file is to blame; all others are this cloud's.
_OF_THE_FILE = frozenset(
    {
        TransferFailure.TOO_LARGE,
        TransferFailure.CHECKSUM_INVALID,
        TransferFailure.CHECKSUM_MISMATCH,
        TransferFailure.SOURCE_CHANGED,
        TransferFailure.DECOMPRESSION,
        TransferFailure.MEMORY_LIMIT,
        TransferFailure.FORMAT_MISMATCH,
        TransferFailure.FORMAT_UNSAFE,
        TransferFailure.FORMAT_DAMAGED,
        TransferFailure.ARCHIVE_REFUSED,
        TransferFailure.UPLOAD_BROKEN,
        TransferFailure.STALLED,
    }
)
_CODES = {
    UploadRefusal.OFFSET: (409, "the body begins elsewhere"),
    UploadRefusal.LOCKED: (423, "another request brings bytes of this upload"),
    UploadRefusal.LENGTH: (400, "Upload-Length does not fit"),
    UploadRefusal.TOO_LARGE: (413, "the file is too large"),
    UploadRefusal.USED: (400, ALREADY_USED),
    UploadRefusal.BROKEN: (503, "the body was not received; continue at the present offset"),
}


def of_failure(code: str, message: str, *, ended: int) -> Outcome:
    """Return the answer to a request that a failure has ended; `ended` is the status when the file is bad."""
    if code == TransferFailure.UPLOAD_EXPIRED.value:
        return Outcome(400, NOT_VALID_ANYMORE)
    is_of_the_file = any(code == each.value for each in _OF_THE_FILE)
    return Outcome(ended if is_of_the_file else 500, message)


def of_refused(answer: UploadAnswer) -> Outcome:
    """Return the answer of tus to a call that fetch has refused."""
    if answer.refusal is UploadRefusal.ENDED:
        return of_failure(answer.code, answer.message, ended=400)
    if answer.refusal is None or answer.refusal is UploadRefusal.UNKNOWN:
        return NOT_NOW
    code, text = _CODES[answer.refusal]
    headers = [_RETRY] if code in (423, 503) else []
    return Outcome(code, answer.message or text, headers)


def of_refused_form(answer: UploadAnswer) -> Outcome:
    """Return CloudStack's answer to a form that fetch has refused, or whose file has failed."""
    if answer.refusal is UploadRefusal.ENDED:
        return of_failure(answer.code, answer.message, ended=400)
    if answer.refusal in (UploadRefusal.USED, UploadRefusal.LOCKED):
        return Outcome(400, ALREADY_USED)
    if answer.refusal is UploadRefusal.TOO_LARGE:
        return Outcome(400, answer.message)
    return NOT_NOW


def of_form(end: UploadEnd) -> Outcome:
    if end.code:
        return of_failure(end.code, end.message, ended=400)
    return Outcome(200, SUCCESSFUL)


def of_ended(end: UploadEnd, method: str) -> Outcome:
    """Return the answer to a request that comes after the end of its job."""
    if method == "POST":
        if end.code == TransferFailure.UPLOAD_EXPIRED.value:
            return Outcome(400, NOT_VALID_ANYMORE)
        return Outcome(400, ALREADY_USED)
    if end.code:
        return of_failure(end.code, end.message, ended=410 if method == "HEAD" else 400)
    if method == "HEAD":
        size_bytes = end.total_bytes or 0
        return of_status(UploadAnswer(None, size_bytes, size_bytes, is_complete=True))
    return Outcome(409, "the upload is complete")


def of_status(answer: UploadAnswer) -> Outcome:
    """Return the answer to HEAD."""
    length = (
        ("Upload-Defer-Length", "1")
        if answer.total_bytes is None
        else ("Upload-Length", str(answer.total_bytes))
    )
    return Outcome(200, "", [("Upload-Offset", str(answer.offset)), length, ("Cache-Control", "no-store")])
