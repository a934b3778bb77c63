# SPDX-License-Identifier: Apache-2.0
"""QCOW2 (QEMU's docs/interop/qcow2.txt): an image that refers to another file would read a hypervisor's disk.

Versions 2 and 3 differ: a v2 header ends at byte 72, and what stands there are extensions, not feature bits.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from attrs import frozen

from systemvm.ssvm.failure import Code, TransferError
from systemvm.ssvm.formats import signatures
from systemvm.ssvm.formats.head import Head, mismatch, refuse_other_format
from systemvm.wire.storage import ImageFormat

MAGIC = b"QFI\xfb"
V2_HEADER_BYTES, V3_HEADER_BYTES = 72, 104
MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21

INCOMPATIBLE_DIRTY, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DATA_FILE = 1 << 0, 1 << 1, 1 << 2
INCOMPATIBLE_COMPRESSION, INCOMPATIBLE_EXTENDED_L2 = 1 << 3, 1 << 4
KNOWN_INCOMPATIBLE = (
    INCOMPATIBLE_DIRTY
    | INCOMPATIBLE_CORRUPT
    | INCOMPATIBLE_DATA_FILE
    | INCOMPATIBLE_COMPRESSION
    | INCOMPATIBLE_EXTENDED_L2
)
EXTENSION_END = 0
EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_DATA_FILE = 0x44415441
MAX_L1_BYTES = 32 << 20  # QEMU's own bound
MAX_SNAPSHOTS = 65536


@frozen
class Qcow2Header:
    """The fields that both versions have, and the feature bits of version 3."""

    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    snapshot_count: int
    snapshots_offset: int
    incompatible: int = 0
    header_length: int = V2_HEADER_BYTES

    @classmethod
    def read(cls, head: bytes) -> Qcow2Header:
        """From at least `V3_HEADER_BYTES` bytes that begin with the magic."""
        fields = struct.unpack_from(">IQIIQIIQQIIQ", head, 4)
        if fields[0] == 2:
            return cls(*fields)
        return cls(*fields, *struct.unpack_from(">Q", head, 72), *struct.unpack_from(">I", head, 100))


class Qcow2Inspector:
    """Reads the header, then its extensions up to the end of the first cluster, and lets the rest go by."""

    def __init__(self, max_virtual_size_bytes: int) -> None:
        self._max_virtual_size_bytes = max_virtual_size_bytes
        self._head = Head(V3_HEADER_BYTES)
        self._header: Qcow2Header | None = None
        self._complete = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        before = self._head.seen_bytes
        if self._head.feed(data):
            self._look(before, data)

    def finish(self) -> int:
        head, seen_bytes = bytes(self._head.data), self._head.seen_bytes
        if not head.startswith(MAGIC):
            raise mismatch(ImageFormat.QCOW2, signatures.disk_format(head))
        if self._header is None:
            _damaged("the header is cut off")
        if not self._complete:  # an image smaller than one cluster: what is there is all
            self._check_extensions(self._header, head, whole=True)
        header = self._header
        for what, end in (
            ("L1 table", header.l1_table_offset + 8 * header.l1_size),
            (
                "refcount table",
                header.refcount_table_offset + (header.refcount_table_clusters << header.cluster_bits),
            ),
        ):
            if end > seen_bytes:
                _damaged(f"its {what} ends at byte {end}, but the file at {seen_bytes}")
        return header.size

    def _look(self, before: int, data: bytes | bytearray | memoryview) -> None:
        """The head is complete: first the header alone, then as much of the first cluster as there can be."""
        head = bytes(self._head.data)
        if self._header is None:
            if not head.startswith(MAGIC):
                refuse_other_format(head, ImageFormat.QCOW2)
                raise mismatch(ImageFormat.QCOW2, None)
            self._header = self._check_header(Qcow2Header.read(head))
            self._head.wanted_bytes = 1 << self._header.cluster_bits
            used = V3_HEADER_BYTES - before if before < V3_HEADER_BYTES else 0
            rest = memoryview(data)[used:]
            self._head.seen_bytes -= len(rest)
            if not self._head.feed(rest):
                return
            head = bytes(self._head.data)
        self._check_extensions(self._header, head, whole=False)
        self._complete = True

    def _check_header(self, header: Qcow2Header) -> Qcow2Header:
        if header.version not in (2, 3):
            _unsafe(f"it has version {header.version}", "versions 2 and 3 are supported")
        if header.backing_file_offset or header.backing_file_size:
            _unsafe(
                "it has a backing file reference",
                "publish a standalone image: qemu-img convert -O qcow2 IN OUT",
            )
        if header.incompatible & INCOMPATIBLE_DATA_FILE:
            _unsafe_data_file()
        if unknown := header.incompatible & ~KNOWN_INCOMPATIBLE:
            _unsafe(
                f"it has unknown incompatible feature bits ({unknown:#x})",
                "convert it with an older qemu-img",
            )
        if header.incompatible & INCOMPATIBLE_CORRUPT:
            _damaged("it is marked corrupt", "repair it with qemu-img check -r all")
        if header.crypt_method:
            _unsafe(
                "it is encrypted, and its secret is not known here", "publish an image without encryption"
            )
        if not MIN_CLUSTER_BITS <= header.cluster_bits <= MAX_CLUSTER_BITS:
            _damaged(f"its cluster size is 2^{header.cluster_bits}")
        if header.version == 3 and (header.header_length < V3_HEADER_BYTES or header.header_length % 8):
            _damaged(f"its header claims {header.header_length} bytes")
        if header.version == 3 and header.header_length > 1 << header.cluster_bits:
            _damaged("its header is longer than a cluster")
        if header.size > self._max_virtual_size_bytes:
            raise TransferError(
                Code.TOO_LARGE,
                f"the disk in the image has {header.size} bytes, the limit is {self._max_virtual_size_bytes}",
            )
        if header.size == 0:
            _damaged("its disk has no bytes")
        if 8 * header.l1_size > MAX_L1_BYTES or header.snapshot_count > MAX_SNAPSHOTS:
            _damaged("its tables are larger than QEMU reads")
        return header

    def _check_extensions(self, header: Qcow2Header, head: bytes, whole: bool) -> None:
        position = header.header_length
        while position + 8 <= len(head):
            kind, length = struct.unpack_from(">II", head, position)
            if kind == EXTENSION_END:
                return
            if kind == EXTENSION_DATA_FILE:
                _unsafe_data_file()
            if kind == EXTENSION_BACKING_FORMAT:
                _unsafe(
                    "it has a backing file format",
                    "publish a standalone image: qemu-img convert -O qcow2 IN OUT",
                )
            position += 8 + (length + 7 & ~7)
        if not whole:
            _damaged("its header extensions do not end within the first cluster")


def _unsafe_data_file() -> NoReturn:
    _unsafe(
        "it keeps its data in an external data file",
        "publish a standalone image: qemu-img convert -O qcow2 IN OUT",
    )


def _unsafe(why: str, hint: str) -> NoReturn:
    raise TransferError(Code.FORMAT_UNSAFE, f"the QCOW2 image is refused: {why}", hint)


def _damaged(why: str, hint: str = "") -> NoReturn:
    raise TransferError(Code.FORMAT_DAMAGED, f"the QCOW2 image is damaged: {why}", hint)
