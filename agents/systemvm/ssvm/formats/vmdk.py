# SPDX-License-Identifier: Apache-2.0
"""VMDK in one file: monolithicSparse and streamOptimized. A descriptor alone, or with extents, is refused."""

from __future__ import annotations

import struct

from systemvm.ssvm.formats import signatures, vmdk_descriptor, vmdk_header
from systemvm.ssvm.formats.mismatch import mismatch
from systemvm.ssvm.formats.refusal import damaged, unsafe
from systemvm.ssvm.formats.stream import Data, ImageStream
from systemvm.ssvm.formats.vmdk_header import HEADER_BYTES, SECTOR_BYTES, STANDALONE_HINT, VmdkHeader
from systemvm.wire.storage import ImageFormat

#: QEMU looks for a parent here, wherever the header says that the descriptor is (vmdk_parent_open).
_QEMU_DESCRIPTOR_BYTES = 20 * SECTOR_BYTES
_PART_BYTES = 64 * 1024


class VmdkInspector:
    """Checks header, descriptor, footer, and the grain directory where it comes first."""

    def __init__(self, max_virtual_size_bytes: int) -> None:
        self._max_virtual_size_bytes = max_virtual_size_bytes
        self.stream = ImageStream(3 * SECTOR_BYTES)
        self.stream.want("its header", 0, HEADER_BYTES, self._take_header, partial=True)
        self.stream.want("its start", 0, signatures.HEAD_BYTES, self._start, partial=True)
        self._header: VmdkHeader | None = None
        self._last_table = 0  # the sector where the last grain table begins

    def feed(self, data: Data) -> None:
        self.stream.feed(data)

    def finish(self) -> int:
        within = self.stream.end()
        header, size_bytes = self._header, self.stream.position
        if within is not None or header is None:
            damaged(ImageFormat.VMDK, f"it ends within {within or 'its header'}")
        if header.has_footer:
            if size_bytes % SECTOR_BYTES:
                damaged(ImageFormat.VMDK, "it is truncated: it ends within a sector")
            header = vmdk_header.read_footer(self.stream.tail, header)
        header.require_within(size_bytes)
        if self._last_table and self._last_table * SECTOR_BYTES + 4 * header.entries_per_table > size_bytes:
            damaged(ImageFormat.VMDK, "it is truncated: a grain table is not within the file")
        return header.disk_bytes

    def _start(self, head: bytes) -> None:
        if head.startswith(vmdk_header.MAGIC) and (others := signatures.other_disk_formats(head, "VMDK")):
            unsafe(ImageFormat.VMDK, f"it also has the magic number of {others[0]}", STANDALONE_HINT)

    def _take_header(self, data: bytes) -> None:
        if not data.startswith(vmdk_header.MAGIC):
            self._refuse_other(data)
        if len(data) < HEADER_BYTES:
            damaged(ImageFormat.VMDK, "its header is truncated")
        header = VmdkHeader.read(data)
        header.check(self._max_virtual_size_bytes)
        self._header = header
        self.stream.want(
            "its descriptor",
            header.descriptor_offset * SECTOR_BYTES,
            header.descriptor_size * SECTOR_BYTES,
            vmdk_descriptor.check,
            header.capacity,
        )
        self.stream.want(
            "its descriptor", SECTOR_BYTES, _QEMU_DESCRIPTOR_BYTES,
            vmdk_descriptor.require_no_references, partial=True,
        )  # fmt: skip
        if not header.has_footer:
            self._read_directory(header.directory_offset * SECTOR_BYTES, header.directory_entries)

    def _read_directory(self, offset: int, entries: int) -> None:
        """Read the directory in parts; each asks for the next."""
        length = 4 * min(entries, _PART_BYTES // 4)
        self.stream.want("its grain directory", offset, length, self._take_directory_part, offset, entries)

    def _take_directory_part(self, data: bytes, offset: int, entries: int) -> None:
        count = len(data) // 4
        self._last_table = max(self._last_table, *struct.unpack(f"<{count}I", data))
        if entries > count:
            self._read_directory(offset + len(data), entries - count)

    @staticmethod
    def _refuse_other(head: bytes) -> None:
        found = signatures.disk_format(head)
        if found == "VMDK":
            unsafe(
                ImageFormat.VMDK,
                "it is an ESX host's disk"
                if head.startswith(b"COWD")
                else "its descriptor names other files",
                STANDALONE_HINT,
            )
        raise mismatch(ImageFormat.VMDK, found)
