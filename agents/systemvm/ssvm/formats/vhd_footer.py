# SPDX-License-Identifier: Apache-2.0
"""The footer of a VHD (Microsoft's Virtual Hard Disk Image Format Specification 1.0), also of a fixed one."""

from __future__ import annotations

import struct

from attrs import frozen

from systemvm.ssvm.formats.refusal import damaged, unsafe
from systemvm.wire.storage import ImageFormat

MAGIC = b"conectix"
FOOTER_BYTES = 512
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
NO_OFFSET = (1 << 64) - 1
#: The largest disk of the format, and of QEMU's block/vpc.c.
MAX_DISK_BYTES = 2040 << 30
STANDALONE_HINT = "publish a standalone image: merge it with its parent first"
_CHECKSUM = slice(64, 68)
_FIELDS = struct.Struct(">8sIIQI4sI4sQQIII")


@frozen
class VhdFooter:
    """The fields that decide what a VHD is."""

    version: int
    data_offset: int
    disk_bytes: int
    disk_type: int

    @classmethod
    def read(cls, data: bytes) -> VhdFooter:
        """Parse 512 bytes that begin with the magic number.

        Raises: TransferError when the checksum is wrong, or it is no footer of a disk that can be used.
        """
        fields = _FIELDS.unpack_from(data)
        if fields[12] != checksum(data, _CHECKSUM):
            damaged(ImageFormat.VHD, "the checksum of its footer is wrong")
        footer = cls(fields[2], fields[3], fields[9], fields[11])
        footer._check()
        return footer

    def _check(self) -> None:
        if self.version >> 16 != 1:
            unsafe(ImageFormat.VHD, f"it has version {self.version >> 16}", "version 1 is supported")
        if self.disk_type == DIFFERENCING:
            unsafe(ImageFormat.VHD, "it is a differencing disk, which needs its parent", STANDALONE_HINT)
        if self.disk_type not in (FIXED, DYNAMIC):
            damaged(ImageFormat.VHD, f"its disk type {self.disk_type} is unknown")
        if self.disk_bytes > MAX_DISK_BYTES:
            damaged(ImageFormat.VHD, f"its disk has {self.disk_bytes} bytes, the maximum is {MAX_DISK_BYTES}")


def checksum(data: bytes, where: slice) -> int:
    """Return the ones' complement of the sum of all bytes but those of the checksum itself."""
    return ~(sum(data) - sum(data[where])) & 0xFFFFFFFF
