# SPDX-License-Identifier: Apache-2.0
"""QCOW2 as a stream: its header, the extensions behind it, and its snapshot table wherever that is.

An image that refers to another file could read a disk of the hypervisor; one that QEMU rejects would be Ready
and never start.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from systemvm.ssvm.formats import signatures
from systemvm.ssvm.formats.head import Head, mismatch, refuse_other_format
from systemvm.ssvm.formats.qcow2_header import (
    AUTOCLEAR_BITMAPS,
    COMPRESSION_HEADER_BYTES,
    MAGIC,
    STANDALONE_HINT,
    Qcow2Header,
    damaged,
    unsafe,
)
from systemvm.wire.storage import ImageFormat

EXTENSION_END = 0
EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_CRYPTO = 0x0537BE77
EXTENSION_BITMAPS = 0x23852875
EXTENSION_DATA_FILE = 0x44415441
MAX_SNAPSHOT_TABLE_BYTES = 1 << 20  # QEMU reads 64 MiB; this is kept in memory, and has room for 10,000
_SNAPSHOT_ENTRY = struct.Struct(">QIHHIIQII")
_MAX_SNAPSHOT_EXTRA_BYTES = 1024


class Qcow2Inspector:
    """Reads the header, its extensions up to the end of the first cluster, and the snapshot table."""

    def __init__(self, max_virtual_size_bytes: int) -> None:
        self._max_virtual_size_bytes = max_virtual_size_bytes
        self._head = Head(COMPRESSION_HEADER_BYTES)
        self._header: Qcow2Header | None = None
        self._complete = False
        self._snapshots = bytearray()
        self._seen_bytes = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        if not self._complete and self._head.feed(data):
            self._inspect_head(data)
        self._keep_snapshots(data)
        self._seen_bytes += len(data)

    def finish(self) -> int:
        head = bytes(self._head.data)
        if not head.startswith(MAGIC):
            raise mismatch(ImageFormat.QCOW2, signatures.disk_format(head))
        if self._header is None:
            damaged("the header is truncated")
        self._header.require_within(self._seen_bytes)
        if not self._complete:
            damaged("its first cluster is truncated")
        self._check_snapshots(self._header)
        return self._header.size

    def _inspect_head(self, data: bytes | bytearray | memoryview) -> None:
        """Check a complete head: first the header only, then the whole first cluster."""
        head = bytes(self._head.data)
        if self._header is None:
            if not head.startswith(MAGIC):
                refuse_other_format(head, ImageFormat.QCOW2)
                raise mismatch(ImageFormat.QCOW2, None)
            header = Qcow2Header.read(head)
            header.check(self._max_virtual_size_bytes)
            self._header = header
            known_bytes = len(head)
            self._head.wanted_bytes = header.cluster_bytes
            rest = memoryview(data)[known_bytes - self._seen_bytes :]
            if not self._head.feed(rest):
                return
            head = bytes(self._head.data)
        if others := signatures.other_disk_formats(head, "QCOW2"):
            unsafe(f"it also has the magic number of {others[0]}", STANDALONE_HINT)
        self._check_extensions(self._header, head)
        self._complete = True

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

    def _keep_snapshots(self, data: bytes | bytearray | memoryview) -> None:
        header = self._header
        if header is None or not header.snapshot_count:
            return
        start = header.snapshots_offset + len(self._snapshots) - self._seen_bytes
        if 0 <= start < len(data):
            room = MAX_SNAPSHOT_TABLE_BYTES - len(self._snapshots)
            self._snapshots += memoryview(data)[start : start + room]

    def _check_snapshots(self, header: Qcow2Header) -> None:
        """As qcow2_do_read_snapshots of block/qcow2-snapshot.c; a truncated entry is read as zeros."""
        position = 0
        for number in range(header.snapshot_count):
            if position + _SNAPSHOT_ENTRY.size > len(self._snapshots):
                self._refuse_snapshot_table(number)
            entry = _SNAPSHOT_ENTRY.unpack_from(self._snapshots, position)
            l1_offset, l1_size, id_bytes, name_bytes, extra_bytes = *entry[:4], entry[8]
            if l1_offset % header.cluster_bytes or l1_offset + 8 * l1_size > self._seen_bytes:
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
