# SPDX-License-Identifier: Apache-2.0
"""VHD, fixed and dynamic. A fixed one is a raw disk whose last sector is a footer: nothing is known earlier.

A dynamic one begins with a copy of the footer. Programs differ in which of both they read: both must agree.
"""

from __future__ import annotations

import struct

from systemvm.ssvm.formats import signatures, vhd_footer
from systemvm.ssvm.formats.mismatch import mismatch, refuse_other_format
from systemvm.ssvm.formats.refusal import damaged, require_virtual_size, unsafe
from systemvm.ssvm.formats.stream import Data, ImageStream
from systemvm.ssvm.formats.vhd_footer import DYNAMIC, FIXED, FOOTER_BYTES, NO_OFFSET, VhdFooter
from systemvm.wire.storage import ImageFormat

DYNAMIC_HEADER_BYTES = 1024
MAX_BLOCK_BYTES = 256 << 20
MAX_TABLE_BYTES = 2 << 40  # that a table covers: XenServer makes room for disks that grow
_UNUSED = 0xFFFFFFFF
_PART_BYTES = 64 * 1024
_DYNAMIC = struct.Struct(">8sQQIIII16s")
_PARENT = slice(40, 56)
_PARENT_NAME_AND_LOCATORS = slice(64, 768)
_CHECKSUM = slice(36, 40)


class VhdInspector:
    """Checks footers, the header of a dynamic disk, and that each of its blocks is within the file."""

    def __init__(self, max_virtual_size_bytes: int) -> None:
        self._max_virtual_size_bytes = max_virtual_size_bytes
        self.stream = ImageStream(FOOTER_BYTES)
        self.stream.want("its footer", 0, FOOTER_BYTES, self._first_footer, partial=True)
        self.stream.want("its start", 0, signatures.HEAD_BYTES, self._start, partial=True)
        self._first: VhdFooter | None = None  # of a dynamic disk
        self._disk_bytes = 0
        self._block_bytes = 0
        self._last_sector = 0  # where the last block begins

    def feed(self, data: Data) -> None:
        self.stream.feed(data)

    def finish(self) -> int:
        within = self.stream.end()
        size_bytes = self.stream.position
        if not self.stream.tail.startswith(vhd_footer.MAGIC):
            if self._first is not None:
                damaged(ImageFormat.VHD, "it is truncated: no footer at its end")
            raise mismatch(ImageFormat.VHD, None)
        if len(self.stream.tail) < FOOTER_BYTES:
            damaged(ImageFormat.VHD, "it is shorter than a footer")
        last = VhdFooter.read(self.stream.tail)
        require_virtual_size(ImageFormat.VHD, last.disk_bytes, self._max_virtual_size_bytes)
        if self._first is None:
            self._check_fixed(last, size_bytes)
        else:
            if within is not None:
                damaged(ImageFormat.VHD, f"it ends within {within}")
            if (last.disk_type, last.disk_bytes) != (self._first.disk_type, self._first.disk_bytes):
                unsafe(
                    ImageFormat.VHD, "its first and its last footer contradict each other", "convert it anew"
                )
            self._check_blocks(size_bytes)
        return last.disk_bytes

    def _start(self, head: bytes) -> None:
        if not head.startswith(vhd_footer.MAGIC):
            refuse_other_format(head, ImageFormat.VHD)
        elif others := signatures.other_disk_formats(head, "VHD"):
            unsafe(ImageFormat.VHD, f"it also has the magic number of {others[0]}", "convert it anew")

    def _first_footer(self, data: bytes) -> None:
        if not data.startswith(vhd_footer.MAGIC):
            return
        if len(data) < FOOTER_BYTES:
            damaged(ImageFormat.VHD, "it is shorter than a footer")
        footer = VhdFooter.read(data)
        if footer.disk_type != DYNAMIC:
            damaged(ImageFormat.VHD, "it begins with the footer of a fixed disk")
        require_virtual_size(ImageFormat.VHD, footer.disk_bytes, self._max_virtual_size_bytes)
        self._first = footer
        self._disk_bytes = footer.disk_bytes
        offset = footer.data_offset
        wanted = self.stream.want("its header", offset, DYNAMIC_HEADER_BYTES, self._dynamic_header)
        if offset % 512 or not wanted:
            damaged(ImageFormat.VHD, f"its header begins at byte {offset}")

    def _dynamic_header(self, data: bytes) -> None:
        magic, _, table_offset, version, entries, block_bytes, stored, parent = _DYNAMIC.unpack_from(data)
        if magic != b"cxsparse":
            damaged(ImageFormat.VHD, "the header of its dynamic disk has no magic number")
        if stored != vhd_footer.checksum(data, _CHECKSUM):
            damaged(ImageFormat.VHD, "the checksum of its header is wrong")
        if version >> 16 != 1:
            unsafe(ImageFormat.VHD, f"its header has version {version >> 16}", "version 1 is supported")
        if parent.strip(b"\0") or data[_PARENT_NAME_AND_LOCATORS].strip(b"\0"):
            unsafe(ImageFormat.VHD, "it names a parent", vhd_footer.STANDALONE_HINT)
        if block_bytes < 512 or block_bytes & (block_bytes - 1) or block_bytes > MAX_BLOCK_BYTES:
            damaged(ImageFormat.VHD, f"its blocks have {block_bytes} bytes")
        needed = -(-self._disk_bytes // block_bytes)
        if entries < needed:
            damaged(ImageFormat.VHD, f"its table has {entries} entries, its disk has {needed} blocks")
        if entries > max(needed, MAX_TABLE_BYTES // block_bytes):
            damaged(ImageFormat.VHD, f"its table has {entries} entries for {needed} blocks")
        self._block_bytes = block_bytes
        if table_offset % 512 or table_offset < FOOTER_BYTES:
            damaged(ImageFormat.VHD, f"its table begins at byte {table_offset}")
        self._read_table(table_offset, entries)

    def _read_table(self, offset: int, entries: int) -> None:
        """Read the table in parts; each asks for the next."""
        length = 4 * min(entries, _PART_BYTES // 4)
        if not self.stream.want("its table", offset, length, self._take_table_part, offset, entries):
            damaged(ImageFormat.VHD, "its table lies before its header")

    def _take_table_part(self, data: bytes, offset: int, entries: int) -> None:
        count = len(data) // 4
        if data.count(0xFF) < len(data):
            used = [sector for sector in struct.unpack(f">{count}I", data) if sector != _UNUSED]
            self._last_sector = max(self._last_sector, max(used))
            if min(used) < 1:
                damaged(ImageFormat.VHD, "a block overlaps its header")
        if entries > count:
            self._read_table(offset + len(data), entries - count)

    def _check_blocks(self, size_bytes: int) -> None:
        if not self._last_sector:
            return
        bitmap_bytes = -(-self._block_bytes // (8 * 512) // 512) * 512
        end = self._last_sector * 512 + bitmap_bytes + self._block_bytes
        if end > size_bytes - FOOTER_BYTES:
            damaged(ImageFormat.VHD, f"a block ends at byte {end}, but the file at {size_bytes}")

    @staticmethod
    def _check_fixed(footer: VhdFooter, size_bytes: int) -> None:
        if footer.disk_type != FIXED or footer.data_offset != NO_OFFSET:
            damaged(ImageFormat.VHD, "its footer is of a dynamic disk, whose header is missing")
        if footer.disk_bytes > size_bytes - FOOTER_BYTES:
            damaged(
                ImageFormat.VHD,
                f"it is truncated: its disk has {footer.disk_bytes} bytes, the file {size_bytes}",
            )
