# SPDX-License-Identifier: Apache-2.0
"""A file on a store as the source of a transfer: read in order, or from where a journal continues."""

from __future__ import annotations

import os

from systemvm.ssvm.failure import TransferError, of_store
from systemvm.ssvm.http_response import ResumePoint
from systemvm.wire.transfer_failure import TransferFailure


class FileSource:
    """The file at a descriptor, which others opened for reading."""

    def __init__(self, descriptor: int, start: ResumePoint | None = None) -> None:
        """Begin at `start`.

        Raises: TransferError `source_changed` when that belongs to another file.
        """
        state = os.fstat(descriptor)
        self._descriptor = descriptor
        self._validator = f"{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}"
        self.total_bytes: int | None = state.st_size
        self.received_bytes = 0
        self.content_encoding: str | None = None
        if start is not None:
            if (start.validator, start.total_bytes) != (self._validator, state.st_size):
                raise TransferError(
                    TransferFailure.SOURCE_CHANGED,
                    "the file has changed since",
                    "copy it again",
                )
            self.received_bytes = start.received_bytes

    def resume_point(self) -> ResumePoint | None:
        """Return where another mover can continue."""
        return ResumePoint(self.received_bytes, self._validator, self.total_bytes, None)

    def read_into(self, buffer: memoryview) -> int:
        """Read once into `buffer`; return the number of bytes, 0 at the end of the file.

        Raises: TransferError when the store fails, or the file becomes shorter.
        """
        try:
            count = os.preadv(self._descriptor, [buffer], self.received_bytes)
        except OSError as error:
            raise of_store(error, "reading the file that is copied") from None
        self.received_bytes += count
        if not count and self.received_bytes != self.total_bytes:
            raise TransferError(TransferFailure.SOURCE_CHANGED, "the file became shorter while it was copied")
        return count
