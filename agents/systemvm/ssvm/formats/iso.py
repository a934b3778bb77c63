# SPDX-License-Identifier: Apache-2.0
"""ISO 9660: a volume descriptor at sector 16, and no magic number of another format at the start."""

from __future__ import annotations

from systemvm.ssvm.formats import signatures
from systemvm.ssvm.formats.head import Head, mismatch, refuse_other_format
from systemvm.wire.storage import ImageFormat

DESCRIPTOR_OFFSET = 16 * 2048
STANDARD_IDS = (b"CD001", b"BEA01")  # ISO 9660; UDF without an ISO 9660 bridge


class IsoInspector:
    """A boot sector can precede the descriptors (isohybrid), but no header of a disk format."""

    def __init__(self) -> None:
        self._start = Head(signatures.HEAD_BYTES)
        self._head = Head(DESCRIPTOR_OFFSET + 6)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        if self._start.feed(data):
            refuse_other_format(bytes(self._start.data), ImageFormat.ISO)
        if self._head.feed(data):
            self._check()

    def finish(self) -> int:
        if self._head.seen_bytes < self._head.wanted_bytes:
            refuse_other_format(bytes(self._start.data), ImageFormat.ISO)
            raise mismatch(ImageFormat.ISO, "file too short to be an ISO")
        return self._head.seen_bytes

    def _check(self) -> None:
        if bytes(self._head.data[DESCRIPTOR_OFFSET + 1 : DESCRIPTOR_OFFSET + 6]) not in STANDARD_IDS:
            raise mismatch(ImageFormat.ISO, None)
