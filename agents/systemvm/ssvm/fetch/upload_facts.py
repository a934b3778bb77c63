# SPDX-License-Identifier: Apache-2.0
"""What is known of the file that a user uploads, and which of its clients' requests fit to that. Sans-IO."""

from __future__ import annotations

from attrs import define

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.upload_messages import UploadAnswer, UploadCall, UploadRefusal


@define
class UploadFacts:
    """`received_bytes` are in the hands of a mover; the length is known once a client has said it."""

    max_size_bytes: int
    total_bytes: int | None = None
    received_bytes: int = 0
    has_begun: bool = False
    is_one_time: bool = False  # one request brings the file, and has begun to

    def answer(self) -> UploadAnswer:
        return UploadAnswer(None, self.received_bytes, self.total_bytes)

    def refuse(self, refusal: UploadRefusal, message: str = "") -> UploadAnswer:
        return UploadAnswer(refusal, self.received_bytes, self.total_bytes, message=message)

    def refuse_length(self, total_bytes: int | None) -> UploadAnswer | None:
        """Return why the file cannot have this length; None when it can, or when none is given."""
        if total_bytes is None:
            return None
        if self.is_one_time:
            return self.refuse(UploadRefusal.USED)
        if self.total_bytes not in (None, total_bytes):
            return self.refuse(UploadRefusal.LENGTH, f"the file has {self.total_bytes} bytes")
        if total_bytes > self.max_size_bytes:
            return self.refuse(UploadRefusal.TOO_LARGE, f"the maximum is {self.max_size_bytes} bytes")
        return None

    def refuse_body(self, call: UploadCall) -> UploadAnswer | None:
        """Return why the file does not go on with this body; None when it does."""
        if self.is_one_time:
            return self.refuse(UploadRefusal.USED)
        if call.is_whole:
            return self.refuse(UploadRefusal.USED) if self.received_bytes else None
        refused = self.refuse_length(call.total_bytes)
        if refused is not None:
            return refused
        total_bytes = call.total_bytes if call.total_bytes is not None else self.total_bytes
        if total_bytes is None:
            return self.refuse(UploadRefusal.LENGTH, "nobody has said how long the file is")
        if call.offset != self.received_bytes:
            return self.refuse(UploadRefusal.OFFSET)
        if call.offset + call.body_bytes > total_bytes:
            return self.refuse(UploadRefusal.TOO_LARGE, f"the file has {total_bytes} bytes")
        return None

    def begin_body(self, call: UploadCall) -> None:
        """Take what an accepted call says of the file."""
        self.has_begun = True
        self.is_one_time = call.is_whole
        if call.is_whole:
            self.total_bytes = None
        elif call.total_bytes is not None:
            self.total_bytes = call.total_bytes


def failed(error: TransferError, *, goes_on: bool = False) -> UploadAnswer:
    """Return the answer to a body that `error` has ended, and with it the upload unless that goes on."""
    refusal = UploadRefusal.BROKEN if goes_on else UploadRefusal.ENDED
    return UploadAnswer(refusal, code=error.code.value, message=error.message)
