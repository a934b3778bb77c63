# SPDX-License-Identifier: Apache-2.0
"""ISO 9660: a volume descriptor at sector 16, and no magic number of another format at the start."""

from __future__ import annotations

import struct

from systemvm.ssvm.formats import signatures
from systemvm.ssvm.formats.mismatch import mismatch, refuse_other_format
from systemvm.ssvm.formats.refusal import damaged
from systemvm.ssvm.formats.stream import Data, ImageStream
from systemvm.wire.storage import ImageFormat

SECTOR_BYTES = 2048
DESCRIPTOR_OFFSET = 16 * SECTOR_BYTES
ISO_ID, UDF_ID = b"CD001", b"BEA01"  # UDF without an ISO 9660 bridge
_PRIMARY = 1
#: Writers count 150 sectors of padding that is often not there, and some more for the last track.
_PADDING_BYTES = 512 * SECTOR_BYTES


class IsoInspector:
    """A boot sector can precede the descriptors (isohybrid), but no header of a disk format."""

    def __init__(self) -> None:
        self.stream = ImageStream()
        self.stream.want("its start", 0, signatures.HEAD_BYTES, self._start, partial=True)
        self.stream.want("its descriptor", DESCRIPTOR_OFFSET, SECTOR_BYTES, self._descriptor, partial=True)
        self._volume_bytes = 0

    def feed(self, data: Data) -> None:
        self.stream.feed(data)

    def finish(self) -> int:
        self.stream.end()
        size_bytes = self.stream.position
        if self._volume_bytes > size_bytes + _PADDING_BYTES:
            damaged(
                ImageFormat.ISO,
                f"it is truncated: its volume has {self._volume_bytes} bytes, the file {size_bytes}",
            )
        return size_bytes

    @staticmethod
    def _start(head: bytes) -> None:
        refuse_other_format(head, ImageFormat.ISO)

    def _descriptor(self, data: bytes) -> None:
        if len(data) < 6:
            raise mismatch(ImageFormat.ISO, "file too short to be an ISO")
        if data[1:6] not in (ISO_ID, UDF_ID):
            raise mismatch(ImageFormat.ISO, None)
        if data[0] == _PRIMARY and data[1:6] == ISO_ID and len(data) == SECTOR_BYTES:
            sectors, sector_bytes = struct.unpack_from("<I44xH", data, 80)
            self._volume_bytes = sectors * sector_bytes
