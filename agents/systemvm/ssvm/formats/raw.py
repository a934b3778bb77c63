# SPDX-License-Identifier: Apache-2.0
"""RAW has no magic number: it must neither begin nor end like another format."""

from __future__ import annotations

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats import signatures
from systemvm.ssvm.formats.head import Head, mismatch, refuse_other_format
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

SECTOR_BYTES = 512
#: Formats that their last sector identifies; a fixed VHD is a raw disk with a footer.
_AT_END = ((b"conectix", "VHD"), (b"koly", "DMG"))


class RawInspector:
    """A raw disk: whole sectors, no header in front, no footer behind."""

    def __init__(self) -> None:
        self._start = Head(signatures.HEAD_BYTES)
        self._end = b""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        if self._start.feed(data):
            refuse_other_format(bytes(self._start.data), ImageFormat.RAW)
        if len(data) >= SECTOR_BYTES:
            self._end = bytes(memoryview(data)[-SECTOR_BYTES:])
        else:
            self._end = (self._end + bytes(data))[-SECTOR_BYTES:]

    def finish(self) -> int:
        size_bytes = self._start.seen_bytes
        if size_bytes < self._start.wanted_bytes:
            refuse_other_format(bytes(self._start.data), ImageFormat.RAW)
        if size_bytes == 0 or size_bytes % SECTOR_BYTES:
            raise TransferError(
                TransferFailure.FORMAT_DAMAGED,
                f"size of a raw disk must be a multiple of {SECTOR_BYTES} bytes: {size_bytes} bytes",
                "check the file: it is truncated, or not a disk image",
            )
        for magic, name in _AT_END:
            if self._end.startswith(magic):
                raise mismatch(ImageFormat.RAW, name)
        return size_bytes
