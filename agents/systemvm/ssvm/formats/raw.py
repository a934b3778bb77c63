# SPDX-License-Identifier: Apache-2.0
"""RAW has no magic number: it must neither begin nor end like another format."""

from __future__ import annotations

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats import signatures
from systemvm.ssvm.formats.mismatch import mismatch, refuse_other_format
from systemvm.ssvm.formats.stream import Data, ImageStream
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

SECTOR_BYTES = 512
#: Formats that their last sector identifies; a fixed VHD is a raw disk with a footer.
_AT_END = ((b"conectix", "VHD"), (b"koly", "DMG"))


class RawInspector:
    """A raw disk: whole sectors, no header in front, no footer behind."""

    def __init__(self) -> None:
        self.stream = ImageStream(SECTOR_BYTES)
        self.stream.want("its start", 0, signatures.HEAD_BYTES, self._start, partial=True)

    def feed(self, data: Data) -> None:
        self.stream.feed(data)

    def finish(self) -> int:
        self.stream.end()
        size_bytes = self.stream.position
        if size_bytes == 0 or size_bytes % SECTOR_BYTES:
            raise TransferError(
                TransferFailure.FORMAT_DAMAGED,
                f"size of a raw disk must be a multiple of {SECTOR_BYTES} bytes: {size_bytes} bytes",
                "check the file: it is truncated, or not a disk image",
            )
        for magic, name in _AT_END:
            if self.stream.tail.startswith(magic):
                raise mismatch(ImageFormat.RAW, name)
        return size_bytes

    @staticmethod
    def _start(head: bytes) -> None:
        refuse_other_format(head, ImageFormat.RAW)
