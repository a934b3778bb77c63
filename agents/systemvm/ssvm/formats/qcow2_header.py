# SPDX-License-Identifier: Apache-2.0
"""A QCOW2 header, and whether QEMU would open it: the checks of qcow2_do_open in QEMU's block/qcow2.c.

Versions 2 and 3 differ: a v2 header ends at byte 72, where extensions follow instead of feature bits.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from attrs import evolve, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure

MAGIC = b"QFI\xfb"
V2_HEADER_BYTES, V3_HEADER_BYTES, COMPRESSION_HEADER_BYTES = 72, 104, 112
MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MIN_EXTENDED_L2_CLUSTER_BITS = 14
MAX_REFCOUNT_ORDER = 6  # refcounts of 64 bits
MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES = 32 << 20, 8 << 20
MAX_SNAPSHOTS = 65536
MAX_OFFSET = (1 << 63) - 1 - MAX_L1_BYTES  # the end of a table is a signed number of 64 bits in QEMU
COMPRESSION_TYPES = {0: "zlib", 1: "zstd"}

DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
KNOWN_INCOMPATIBLE = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2
AUTOCLEAR_BITMAPS, AUTOCLEAR_DATA_FILE_RAW = 1 << 0, 1 << 1

STANDALONE_HINT = "publish a standalone image: qemu-img convert -O qcow2 IN OUT"
DAMAGED_HINT = "compare it with the publisher's file; run qemu-img check FILE"


@frozen
class Qcow2Header:
    """The fields of a header (docs/interop/qcow2.txt of QEMU); version 2 has defaults of the last five."""

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
    autoclear: int = 0
    refcount_order: int = 4
    header_length: int = V2_HEADER_BYTES
    compression_type: int = 0

    @classmethod
    def read(cls, head: bytes) -> Qcow2Header:
        """Parse at least `COMPRESSION_HEADER_BYTES` bytes that begin with the magic number."""
        header = cls(*struct.unpack_from(">IQIIQIIQQIIQ", head, 4))
        if header.version < 3:
            return header
        incompatible, _, autoclear, refcount_order, header_length = struct.unpack_from(">QQQII", head, 72)
        compression_type = head[104] if header_length > V3_HEADER_BYTES else 0
        return evolve(
            header,
            incompatible=incompatible,
            autoclear=autoclear,
            refcount_order=refcount_order,
            header_length=header_length,
            compression_type=compression_type,
        )

    @property
    def cluster_bytes(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l1_entries_needed(self) -> int:
        """The number of entries in the L1 table of a disk of this size."""
        entry_bits = 4 if self.incompatible & EXTENDED_L2 else 3
        covered = 1 << (2 * self.cluster_bits - entry_bits)
        return -(-self.size // covered)

    def check(self, max_virtual_size_bytes: int) -> None:
        """Check the header as QEMU does.

        Raises: TransferError when QEMU would not open it, or when it refers to another file.
        """
        self._require_standalone()
        self._require_layout()
        if self.size > max_virtual_size_bytes:
            raise TransferError(
                TransferFailure.TOO_LARGE,
                f"the disk in the image has {self.size} bytes, the limit is {max_virtual_size_bytes}",
            )
        if self.size == 0:
            damaged("its disk is empty")
        self._require_tables()

    def _require_standalone(self) -> None:
        if self.version not in (2, 3):
            unsafe(f"it has version {self.version}", "versions 2 and 3 are supported")
        if self.backing_file_offset or self.backing_file_size:
            unsafe("it has a backing file reference", STANDALONE_HINT)
        if self.incompatible & DATA_FILE or self.autoclear & AUTOCLEAR_DATA_FILE_RAW:
            unsafe("it keeps its data in an external data file", STANDALONE_HINT)
        if unknown := self.incompatible & ~KNOWN_INCOMPATIBLE:
            unsafe(
                f"it has unknown incompatible feature bits ({unknown:#x})",
                "convert it with an older qemu-img",
            )
        if self.incompatible & CORRUPT:
            damaged("it is marked corrupt", "repair it with qemu-img check -r all")
        if self.crypt_method:
            how = {1: "AES", 2: "LUKS"}.get(self.crypt_method, f"method {self.crypt_method}")
            unsafe(f"it is encrypted ({how}), and its key is not here", "publish it without encryption")

    def _require_layout(self) -> None:
        if not MIN_CLUSTER_BITS <= self.cluster_bits <= MAX_CLUSTER_BITS:
            damaged(f"its clusters have 2^{self.cluster_bits} bytes")
        if self.incompatible & EXTENDED_L2 and self.cluster_bits < MIN_EXTENDED_L2_CLUSTER_BITS:
            damaged(f"its clusters of 2^{self.cluster_bits} bytes are too small for extended L2 entries")
        if self.refcount_order > MAX_REFCOUNT_ORDER:
            damaged(f"its refcount order is {self.refcount_order}, the maximum is {MAX_REFCOUNT_ORDER}")
        if self.version == 2:
            return
        if self.header_length < V3_HEADER_BYTES or self.header_length % 8:
            damaged(f"its header claims {self.header_length} bytes")
        if self.header_length > self.cluster_bytes:
            damaged("its header is longer than a cluster")
        if self.compression_type not in COMPRESSION_TYPES:
            damaged(f"its compression type {self.compression_type} is unknown")
        if bool(self.compression_type) != bool(self.incompatible & COMPRESSION):
            damaged("its compression type and its feature bits contradict each other")

    def _require_tables(self) -> None:
        l1_bytes = 8 * self.l1_size
        if l1_bytes > MAX_L1_BYTES:
            damaged(f"its L1 table has {l1_bytes} bytes, QEMU reads {MAX_L1_BYTES} at most")
        if self.l1_size < self.l1_entries_needed:
            damaged(
                f"its L1 table has {self.l1_size} entries, a disk of {self.size} bytes has"
                f" {self.l1_entries_needed}"
            )
        if self.refcount_table_clusters == 0:
            damaged("it has no refcount table")
        if self.refcount_table_clusters << self.cluster_bits > MAX_REFCOUNT_TABLE_BYTES:
            damaged(f"its refcount table has {self.refcount_table_clusters} clusters, more than QEMU reads")
        if self.snapshot_count > MAX_SNAPSHOTS:
            damaged(f"it has {self.snapshot_count} snapshots, the maximum is {MAX_SNAPSHOTS}")
        for what, offset, used in (
            ("L1 table", self.l1_table_offset, True),
            ("refcount table", self.refcount_table_offset, True),
            ("snapshot table", self.snapshots_offset, self.snapshot_count > 0),
        ):
            if offset % self.cluster_bytes or offset > MAX_OFFSET:
                damaged(f"its {what} begins at byte {offset}, which is not the start of a cluster")
            if used and offset < self.cluster_bytes:
                damaged(f"its {what} overlaps its header")

    def require_within(self, file_bytes: int) -> None:
        """Check that the tables are within the file.

        Raises: TransferError when a table is not within a file of this size.
        """
        refcount_bytes = self.refcount_table_clusters << self.cluster_bits
        for what, end in (
            ("L1 table", self.l1_table_offset + 8 * self.l1_size),
            ("refcount table", self.refcount_table_offset + refcount_bytes),
        ):
            if end > file_bytes:
                damaged(f"its {what} ends at byte {end}, but the file at {file_bytes}")


def unsafe(why: str, hint: str) -> NoReturn:
    raise TransferError(TransferFailure.FORMAT_UNSAFE, f"the QCOW2 image is refused: {why}", hint)


def damaged(why: str, hint: str = DAMAGED_HINT) -> NoReturn:
    raise TransferError(TransferFailure.FORMAT_DAMAGED, f"the QCOW2 image is damaged: {why}", hint)
