# SPDX-License-Identifier: Apache-2.0
"""A chain of qcow2 files as one standalone qcow2, which is computed and not stored.

Its tables come first and its data after them, in the guest's order, so it is read from start to end and any
part of it again with the same bytes: a copy of it is resumed as one of a file.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Sequence

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.qcow2_clusters import Qcow2Chain, place_of
from systemvm.ssvm.formats.qcow2_header import MAGIC, V3_HEADER_BYTES
from systemvm.wire.transfer_failure import TransferFailure

_COPIED = 1 << 63
_REFCOUNT_BYTES = 2
#: 13 MB of memory for each 100 GiB of data, and the same for its tables.
MAX_DATA_CLUSTERS = 1 << 25


@frozen
class _Layout:
    """Of how many clusters each part has; the parts follow each other in this order."""

    refcount_table: int
    refcount_blocks: int
    l1: int
    l2: int
    data: int

    @property
    def head(self) -> int:
        return 1 + self.refcount_table + self.refcount_blocks + self.l1 + self.l2

    @property
    def total(self) -> int:
        return self.head + self.data


class FlatQcow2:
    """Reads of the standalone image; the files stay open as long as it is read.

    Raises: TransferError when a file of the chain is damaged.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        """`descriptors` are the files, the whole one first."""
        self._descriptors = descriptors
        chain = Qcow2Chain(descriptors)
        self.virtual_size_bytes = chain.virtual_size_bytes
        self._cluster_bytes = chain.cluster_bytes
        self._places = array("Q")
        tables: dict[int, tuple[array[int], int]] = {}  # with where the places of a table begin
        for number, table in enumerate(chain.tables()):
            if any(table):
                tables[number] = table, len(self._places)
                self._places.extend(filter(None, table))
                if len(self._places) > MAX_DATA_CLUSTERS:
                    raise TransferError(TransferFailure.TOO_LARGE, "the snapshot has too much data")
        layout = _layout(chain.cluster_bytes, chain.table_count, len(tables), len(self._places))
        self._head = _head(chain, layout, tables)
        self.size_bytes = layout.total * chain.cluster_bytes

    def read(self, offset: int, count: int) -> bytes:
        """Return a part of the image, as much of it as there is."""
        count = min(count, self.size_bytes - offset)
        parts = []
        while count > 0:
            part = self._head[offset : offset + count] or self._read_data(offset - len(self._head), count)
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return b"".join(parts)

    def _read_data(self, offset: int, count: int) -> bytes:
        """Return data up to where the next cluster is elsewhere."""
        size = self._cluster_bytes
        number, within = divmod(offset, size)
        first = self._places[number]
        length = size - within
        while length < count and self._places[number + 1] == self._places[number] + size:
            number += 1
            length += size
        place = place_of(first)
        length = min(length, count)
        data = os.pread(self._descriptors[place.file], length, place.offset + within)
        # the last cluster of a file can end with the file: the rest reads as zeros in QEMU, too
        return data if len(data) == length else self._padded(data, place.file, place.offset + within, length)

    def _padded(self, data: bytes, file: int, offset: int, length: int) -> bytes:
        if offset + len(data) < os.fstat(self._descriptors[file]).st_size:
            return data or self._ended()
        return data + bytes(length - len(data))

    @staticmethod
    def _ended() -> bytes:
        raise TransferError(TransferFailure.SOURCE_CHANGED, "the snapshot's file was changed meanwhile")


def _layout(cluster_bytes: int, table_count: int, l2: int, data: int) -> _Layout:
    """Return a layout whose refcounts have room for themselves."""
    l1 = -(-8 * table_count // cluster_bytes)
    layout = _Layout(1, 1, l1, l2, data)
    while True:
        blocks = -(-layout.total * _REFCOUNT_BYTES // cluster_bytes)
        needed = _Layout(-(-8 * blocks // cluster_bytes), blocks, l1, l2, data)
        if needed == layout:
            return layout
        layout = needed


def _head(chain: Qcow2Chain, layout: _Layout, tables: dict[int, tuple[array[int], int]]) -> bytes:
    """Return everything before the data: header, refcounts, L1 and L2 tables."""
    size = chain.cluster_bytes
    l1_at = size * (1 + layout.refcount_table + layout.refcount_blocks)
    l2_at, data_at = l1_at + size * layout.l1, size * layout.head
    header = MAGIC + struct.pack(
        ">IQIIQIIQQIIQQQQII",
        3, 0, 0, size.bit_length() - 1, chain.virtual_size_bytes, 0, chain.table_count, l1_at,
        size, layout.refcount_table, 0, 0, 0, 0, 0, 4, V3_HEADER_BYTES,
    )  # fmt: skip
    blocks_at = size * (1 + layout.refcount_table)
    table = array("Q", (blocks_at + size * number for number in range(layout.refcount_blocks)))
    counts = array("H", [1]) * layout.total
    l1 = array("Q", bytes(8 * chain.table_count))
    l2s = []
    for position, (number, (places, first)) in enumerate(tables.items()):
        l1[number] = (l2_at + size * position) | _COPIED
        entries, offset = array("Q", bytes(8 * len(places))), data_at + size * first
        for index, place in enumerate(places):
            if place:
                entries[index] = offset | _COPIED
                offset += size
        l2s.append(_padded(entries, size))
    return b"".join([
        header.ljust(size, b"\0"),  # zeros end the header extensions
        _padded(table, size * layout.refcount_table),
        _padded(counts, size * layout.refcount_blocks),
        _padded(l1, size * layout.l1),
        *l2s,
    ])  # fmt: skip


def _padded(words: array[int], length: int) -> bytes:
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes().ljust(length, b"\0")
