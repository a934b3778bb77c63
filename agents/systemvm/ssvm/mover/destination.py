# SPDX-License-Identifier: Apache-2.0
"""What a transfer writes to: a part file on NFS (`part_file`) or an object of a bucket (`s3_destination`)."""

from __future__ import annotations

from typing import Protocol

from systemvm.ssvm.resumable.journal import Journal
from systemvm.ssvm.resumable_hash import ResumableHash


class ImageWriter(Protocol):
    """Takes an image in order; `size_bytes` is that of the image so far."""

    size_bytes: int

    def write(self, data: bytes | memoryview) -> None: ...

    def flush(self) -> None:
        """Give the store everything so far, so that a journal can describe it."""

    def finish(self) -> None:
        """Complete the image, and make it durable."""

    def close(self) -> None:
        """Write nothing more, whether it is finished or not."""


class CheckpointSchedule(Protocol):
    """When a transfer is made durable; see `checkpoints`."""

    def begin_at(self, received_bytes: int, written_bytes: int) -> None: ...

    def is_due(self, received_bytes: int, written_bytes: int) -> bool: ...

    def is_overdue(self, written_bytes: int) -> bool: ...

    def take(self, received_bytes: int | None, written_bytes: int, journal: Journal | None) -> None: ...

    def wait(self) -> None: ...

    def close(self) -> None: ...


class Destination(Protocol):
    """Methods raise TransferError when the store fails."""

    journal: Journal | None  # where the transfer continues; None from its first byte

    def begin_anew(self) -> None:
        """Discard what is there, and begin at the first byte."""

    def writer(self, size_bytes: int) -> ImageWriter:
        """Return the writer, which continues at this size."""

    def checkpoints(self) -> CheckpointSchedule: ...

    def restore_hash(self, journal: Journal, name: str) -> ResumableHash:
        """Return the digest of the received bytes before the journal; ValueError when that is impossible."""
