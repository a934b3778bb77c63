# SPDX-License-Identifier: Apache-2.0
"""VHDX: headers, regions, metadata and the block table, in whatever order the file has them."""

from __future__ import annotations

import struct
import uuid

from systemvm.ssvm.formats import signatures
from systemvm.ssvm.formats import vhdx_tables as tables
from systemvm.ssvm.formats.mismatch import mismatch, refuse_other_format
from systemvm.ssvm.formats.refusal import damaged, require_virtual_size, unsafe
from systemvm.ssvm.formats.stream import Data, ImageStream
from systemvm.ssvm.formats.vhdx_tables import MIB, VhdxRange
from systemvm.wire.storage import ImageFormat

MAGIC = b"vhdxfile"
_HAS_PARENT = 2
_FULLY_PRESENT, _PARTIALLY_PRESENT = 6, 7
_KNOWN_STATES = frozenset({0, 1, 2, 3, _FULLY_PRESENT})  # [MS-VHDX] 2.5.1.1
_PART_BYTES = 64 * 1024


class VhdxInspector:
    """Checks that the disk is whole: no parent, no log to replay, no block outside of the file."""

    def __init__(self, max_virtual_size_bytes: int) -> None:
        self._max_virtual_size_bytes = max_virtual_size_bytes
        self.stream = ImageStream()
        self.stream.want("its start", 0, signatures.HEAD_BYTES, self._start, partial=True)
        for offset in tables.HEADER_OFFSETS:
            self.stream.want("its headers", offset, tables.HEADER_BYTES, self._take_header)
        self.stream.want("its region table", tables.REGIONS_OFFSET, tables.REGIONS_BYTES, self._take_regions)
        self._headers: list[bytes] = []
        self._regions: list[VhdxRange] = []
        self._block_table = VhdxRange(0, 0)
        self._items: dict[uuid.UUID, bytes] = {}
        self._disk_bytes = self._block_bytes = self._table_end = 0
        self._last_block = 0  # its offset
        self._below: dict[VhdxRange, int] = {}  # the block that begins last before a region

    def feed(self, data: Data) -> None:
        self.stream.feed(data)

    def finish(self) -> int:
        if (within := self.stream.end()) is not None:
            damaged(ImageFormat.VHDX, f"it ends within {within}")
        for region in self._regions:
            if region in self._below and self._below[region] + self._block_bytes > region.offset:
                damaged(ImageFormat.VHDX, "a block overlaps its tables")
            if region.end > self.stream.position and region.length:
                damaged(ImageFormat.VHDX, f"a region ends at byte {region.end}, behind the end of the file")
        if self._last_block and self._last_block + self._block_bytes > self.stream.position:
            damaged(ImageFormat.VHDX, "it is truncated: a block ends behind the end of the file")
        return self._disk_bytes

    def _start(self, head: bytes) -> None:
        if not head.startswith(MAGIC):
            refuse_other_format(head, ImageFormat.VHDX)
            raise mismatch(ImageFormat.VHDX, None)
        if others := signatures.other_disk_formats(head, "VHDX"):
            unsafe(ImageFormat.VHDX, f"it also has the magic number of {others[0]}", "convert it anew")

    def _take_header(self, data: bytes) -> None:
        self._headers.append(data)
        if len(self._headers) == 2:
            header = tables.read_headers((self._headers[0], self._headers[1]))
            self._regions.append(header.log)

    def _take_regions(self, data: bytes) -> None:
        self._block_table, metadata = tables.read_regions(data)
        for region in (self._block_table, metadata):
            if region.overlaps(self._regions[0]):
                damaged(ImageFormat.VHDX, "a region overlaps its log")
            self._regions.append(region)

        self.stream.want(
            "its metadata", metadata.offset, tables.METADATA_BYTES, self._take_metadata, metadata
        )
        self._table_end = self._block_table.end  # until the metadata tell how much of it is used
        self._read_block_table(self._block_table.offset)

    def _take_metadata(self, table: bytes, region: VhdxRange) -> None:
        for name, where in tables.read_metadata_table(table, region).items():
            self.stream.want("its metadata", where.offset, where.length, self._take_item, name)

    def _take_item(self, data: bytes, name: uuid.UUID) -> None:
        self._items[name] = data
        if len(self._items) == len(tables.ITEMS):
            self._check_items()

    def _check_items(self) -> None:
        items = self._items
        block_bytes, flags = struct.unpack("<II", items[tables.FILE_PARAMETERS])
        (disk_bytes,) = struct.unpack("<Q", items[tables.DISK_SIZE])
        (sector_bytes,) = struct.unpack("<I", items[tables.LOGICAL_SECTOR])
        (physical_bytes,) = struct.unpack("<I", items[tables.PHYSICAL_SECTOR])
        if flags & _HAS_PARENT:
            unsafe(ImageFormat.VHDX, "it is a differencing disk, which needs its parent",
                   tables.STANDALONE_HINT)  # fmt: skip
        if block_bytes & (block_bytes - 1) or not MIB <= block_bytes <= tables.MAX_BLOCK_BYTES:
            damaged(ImageFormat.VHDX, f"its blocks have {block_bytes} bytes")
        if sector_bytes not in (512, 4096) or physical_bytes not in (512, 4096):
            damaged(ImageFormat.VHDX, f"its sectors have {sector_bytes} and {physical_bytes} bytes")
        if sector_bytes != 512:
            unsafe(
                ImageFormat.VHDX,
                f"its disk has sectors of {sector_bytes} bytes, which QEMU does not read",
                "convert it to a disk with sectors of 512 bytes",
            )
        require_virtual_size(ImageFormat.VHDX, disk_bytes, self._max_virtual_size_bytes)
        if disk_bytes > tables.MAX_DISK_BYTES:
            damaged(ImageFormat.VHDX, f"its disk has {disk_bytes} bytes")
        blocks = -(-disk_bytes // block_bytes)
        chunk_ratio = (sector_bytes << 23) // block_bytes
        needed = 8 * (blocks + (blocks - 1) // chunk_ratio)
        if needed > self._block_table.length:
            damaged(ImageFormat.VHDX, f"its block table has {self._block_table.length} bytes, not {needed}")
        self._disk_bytes, self._block_bytes = disk_bytes, block_bytes
        self._table_end = self._block_table.offset + needed

    def _read_block_table(self, offset: int) -> None:
        """Read the table in parts, and no further than the disk goes once that is known."""
        length = min(self._block_table.end - offset, _PART_BYTES)
        self.stream.want("its block table", offset, length, self._take_block_table_part, offset)

    def _take_block_table_part(self, data: bytes, offset: int) -> None:
        self._check_entries(data[: max(0, self._table_end - offset)])
        if offset + len(data) < self._table_end:
            self._read_block_table(offset + len(data))

    def _check_entries(self, data: bytes) -> None:
        if data.count(0) == len(data):
            return
        entries = struct.unpack(f"<{len(data) // 8}Q", data)
        states = {entry & 7 for entry in entries}
        if _PARTIALLY_PRESENT in states:
            unsafe(ImageFormat.VHDX, "a block of it is in a parent", tables.STANDALONE_HINT)
        if unknown := states - _KNOWN_STATES:
            damaged(ImageFormat.VHDX, f"a block has the unknown state {min(unknown)}")
        offsets = [entry >> 20 << 20 for entry in entries if entry & 7 == _FULLY_PRESENT]
        if not offsets:
            return
        self._last_block = max(self._last_block, max(offsets))
        if min(offsets) < MIB:
            damaged(ImageFormat.VHDX, "a block overlaps its header")
        for region in self._regions:
            if any(region.offset <= each < region.end for each in offsets):
                damaged(ImageFormat.VHDX, "a block overlaps its tables")
            before = [each for each in offsets if each < region.offset]
            if before:
                self._below[region] = max(self._below.get(region, 0), max(before))
