# SPDX-License-Identifier: Apache-2.0
"""QCOW2 as a stream: its header, the extensions behind it, and its snapshot table wherever that is.

An image that refers to another file could read a disk of the hypervisor; one that QEMU rejects would be Ready
and never start.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from systemvm.ssvm.formats import signatures
from systemvm.ssvm.formats.mismatch import mismatch, refuse_other_format
from systemvm.ssvm.formats.qcow2_header import (
    AUTOCLEAR_BITMAPS,
    COMPRESSION_HEADER_BYTES,
    MAGIC,
    STANDALONE_HINT,
    Qcow2Header,
    damaged,
    unsafe,
)
from systemvm.ssvm.formats.stream import Data, ImageStream
from systemvm.wire.storage import ImageFormat

EXTENSION_END = 0
EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_CRYPTO = 0x0537BE77
EXTENSION_BITMAPS = 0x23852875
EXTENSION_DATA_FILE = 0x44415441
MAX_SNAPSHOT_TABLE_BYTES = 1 << 20  # QEMU reads 64 MiB; this is kept in memory, and has room for 10,000
_SNAPSHOT_ENTRY = struct.Struct(">QIHHIIQII")
_MAX_SNAPSHOT_EXTRA_BYTES = 1024
_SECTOR_BYTES = 512  # the smallest cluster


class Qcow2Inspector:
    """Reads the header, its extensions up to the end of the first cluster, and the snapshot table."""

    def __init__(self, max_virtual_size_bytes: int) -> None:
        self._max_virtual_size_bytes = max_virtual_size_bytes
        self.stream = ImageStream()
        self.stream.want("its header", 0, _SECTOR_BYTES, self._take_header, partial=True)
        self._header: Qcow2Header | None = None
        self._snapshots = b""

    def feed(self, data: Data) -> None:
        self.stream.feed(data)

    def finish(self) -> int:
        within = self.stream.end()
        if self._header is None:
            damaged("the header is truncated")
        self._header.require_within(self.stream.position)
        if within is not None:
            damaged(f"{within} is truncated")
        self._check_snapshots(self._header)
        return self._header.size

    def _take_header(self, head: bytes) -> None:
        """Check the header, before the rest of its cluster has come."""
        if not head.startswith(MAGIC):
            refuse_other_format(head, ImageFormat.QCOW2)
            raise mismatch(ImageFormat.QCOW2, None)
        if len(head) < COMPRESSION_HEADER_BYTES:
            damaged("the header is truncated")
        header = Qcow2Header.read(head)
        header.check(self._max_virtual_size_bytes)
        self._header = header
        rest_bytes = header.cluster_bytes - _SECTOR_BYTES
        self.stream.want("its first cluster", _SECTOR_BYTES, rest_bytes, self._take_cluster, header, head)
        if header.snapshot_count:
            self.stream.want(
                "its snapshot table", header.snapshots_offset, MAX_SNAPSHOT_TABLE_BYTES,
                self._take_snapshots, partial=True,
            )  # fmt: skip

    def _take_snapshots(self, data: bytes) -> None:
        self._snapshots = data

    def _take_cluster(self, rest: bytes, header: Qcow2Header, start: bytes) -> None:
        head = start + rest
        if others := signatures.other_disk_formats(head, "QCOW2"):
            unsafe(f"it also has the magic number of {others[0]}", STANDALONE_HINT)
        self._check_extensions(header, head)

    @staticmethod
    def _check_extensions(header: Qcow2Header, head: bytes) -> None:
        position = header.header_length
        while position + 8 <= len(head):
            kind, length = struct.unpack_from(">II", head, position)
            if position + 8 + length > len(head):  # checked first, as in QEMU
                break
            if kind == EXTENSION_END:
                return
            if kind == EXTENSION_DATA_FILE:
                unsafe("it keeps its data in an external data file", STANDALONE_HINT)
            if kind == EXTENSION_BACKING_FORMAT:
                unsafe("it has a backing file format", STANDALONE_HINT)
            if kind == EXTENSION_CRYPTO:
                unsafe("it has an encryption header", "publish it without encryption")
            if kind == EXTENSION_BITMAPS and (length != 24 or header.autoclear & AUTOCLEAR_BITMAPS):
                unsafe("it contains dirty bitmaps of a backup", STANDALONE_HINT)
            position += 8 + (length + 7 & ~7)
        damaged("its header extensions do not end within the first cluster")

    def _check_snapshots(self, header: Qcow2Header) -> None:
        """As qcow2_do_read_snapshots of block/qcow2-snapshot.c; a truncated entry is read as zeros."""
        position = 0
        for number in range(header.snapshot_count):
            if position + _SNAPSHOT_ENTRY.size > len(self._snapshots):
                self._refuse_snapshot_table(number)
            entry = _SNAPSHOT_ENTRY.unpack_from(self._snapshots, position)
            l1_offset, l1_size, id_bytes, name_bytes, extra_bytes = *entry[:4], entry[8]
            if l1_offset % header.cluster_bytes or l1_offset + 8 * l1_size > self.stream.position:
                damaged(f"the L1 table of snapshot {number} is not within the file")
            if extra_bytes > _MAX_SNAPSHOT_EXTRA_BYTES:
                damaged(f"snapshot {number} claims {extra_bytes} bytes of extra data")
            position += _SNAPSHOT_ENTRY.size + extra_bytes + id_bytes + name_bytes
            position = position + 7 & ~7
        if position - 7 > len(self._snapshots):
            self._refuse_snapshot_table(header.snapshot_count)

    def _refuse_snapshot_table(self, number: int) -> NoReturn:
        if len(self._snapshots) == MAX_SNAPSHOT_TABLE_BYTES:
            unsafe(f"its snapshot table is larger than {MAX_SNAPSHOT_TABLE_BYTES} bytes", STANDALONE_HINT)
        damaged(f"its snapshot table is truncated at entry {number}")
