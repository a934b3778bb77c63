# SPDX-License-Identifier: Apache-2.0
"""The header of a sparse VMDK extent (VMware's Virtual Disk Format 5.0), checked as QEMU checks it."""

from __future__ import annotations

import struct

from attrs import evolve, frozen

from systemvm.ssvm.formats.refusal import damaged, require_virtual_size, unsafe
from systemvm.wire.storage import ImageFormat

MAGIC = b"KDMV"
HEADER_BYTES = 512
SECTOR_BYTES = 512
GD_AT_END = (1 << 64) - 1
MAX_GRAIN_SECTORS = 0x200000
MAX_GRAIN_DIRECTORY_ENTRIES = 32 << 20
MAX_DESCRIPTOR_END = 1 << 20
STANDALONE_HINT = "publish one file: qemu-img convert -O vmdk -o subformat=streamOptimized IN OUT"

_LINE_ENDS = b"\n \r\n"
_CHECK_LINE_ENDS, _COMPRESSED, _MARKERS = 1, 1 << 16, 1 << 17
_FIELDS = struct.Struct("<IIQQQQI8xQQx4sH")
_FOOTER_MARKER, _END_MARKER = 3, 0
_MARKER = struct.Struct("<QII")


@frozen
class VmdkHeader:
    """The fields that QEMU uses; sizes and offsets are in sectors."""

    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_offset: int
    descriptor_size: int
    entries_per_table: int
    directory_offset: int
    overhead: int
    line_ends: bytes
    compression: int

    @classmethod
    def read(cls, data: bytes) -> VmdkHeader:
        """Parse `HEADER_BYTES` bytes that begin with the magic number."""
        return cls(*_FIELDS.unpack_from(data, len(MAGIC)))

    @property
    def disk_bytes(self) -> int:
        return self.capacity * SECTOR_BYTES

    @property
    def has_footer(self) -> bool:
        return self.directory_offset == GD_AT_END

    @property
    def directory_entries(self) -> int:
        return -(-self.capacity // (self.entries_per_table * self.grain))

    def check(self, max_virtual_size_bytes: int) -> None:
        """Check a header.

        Raises: TransferError when QEMU would not open it, or would read other files for it.
        """
        if not 1 <= self.version <= 3:
            unsafe(ImageFormat.VMDK, f"it has version {self.version}", "versions 1 to 3 are supported")
        if self.flags & _CHECK_LINE_ENDS and self.line_ends != _LINE_ENDS:
            damaged(ImageFormat.VMDK, "it was transferred as text, which changed its line ends")
        if self.capacity == 0:
            unsafe(
                ImageFormat.VMDK, "it has no data of its own: its descriptor names other files",
                STANDALONE_HINT,
            )  # fmt: skip
        require_virtual_size(ImageFormat.VMDK, self.disk_bytes, max_virtual_size_bytes)
        if self.compression not in (0, 1):
            damaged(ImageFormat.VMDK, f"its compression {self.compression} is unknown")
        if bool(self.flags & _COMPRESSED) != bool(self.compression):
            damaged(ImageFormat.VMDK, "its compression and its flags contradict each other")
        if not 1 <= self.entries_per_table <= 512:
            damaged(ImageFormat.VMDK, f"its grain tables have {self.entries_per_table} entries")
        if not 1 <= self.grain <= MAX_GRAIN_SECTORS:
            damaged(ImageFormat.VMDK, f"its grains have {self.grain} sectors")
        if self.directory_entries > MAX_GRAIN_DIRECTORY_ENTRIES:
            damaged(ImageFormat.VMDK, f"its grain directory has {self.directory_entries} entries")
        if self.descriptor_offset < 1 or self.descriptor_size < 1:
            unsafe(ImageFormat.VMDK, "it has no descriptor: it is a part of a disk", STANDALONE_HINT)
        if (self.descriptor_offset + self.descriptor_size) * SECTOR_BYTES > MAX_DESCRIPTOR_END:
            damaged(ImageFormat.VMDK, "its descriptor is not within the first MiB")
        if self.directory_offset == 0:
            damaged(ImageFormat.VMDK, "it has no grain directory")

    def require_within(self, file_bytes: int) -> None:
        """Check the ends of its tables.

        Raises: TransferError when the file is shorter.
        """
        end = self.directory_offset * SECTOR_BYTES + 4 * self.directory_entries
        if max(end, self.overhead * SECTOR_BYTES) > file_bytes:
            damaged(ImageFormat.VMDK, f"it is truncated: its tables do not end within its {file_bytes} bytes")


def read_footer(tail: bytes, header: VmdkHeader) -> VmdkHeader:
    """Return the header at the end of a streamOptimized image; `tail` is its last three sectors.

    Raises: TransferError when there is none, or when it differs in more than the place of the directory.
    """
    size = SECTOR_BYTES
    marker, data, end = tail[:size], tail[size : 2 * size], tail[2 * size :]
    if len(tail) < 3 * size or not data.startswith(MAGIC):
        damaged(ImageFormat.VMDK, "it is truncated: no footer at its end")
    if _MARKER.unpack_from(marker)[1:] != (0, _FOOTER_MARKER) or _MARKER.unpack_from(end) != (0, 0, 0):
        damaged(ImageFormat.VMDK, "its footer has no markers")
    footer = VmdkHeader.read(data)
    if evolve(footer, directory_offset=GD_AT_END) != header:
        unsafe(ImageFormat.VMDK, "its header and its footer contradict each other", STANDALONE_HINT)
    if footer.has_footer or footer.directory_offset == 0:
        damaged(ImageFormat.VMDK, "its footer names no grain directory")
    return footer
