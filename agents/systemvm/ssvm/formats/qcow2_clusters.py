# SPDX-License-Identifier: Apache-2.0
"""Where the guest's clusters of a chain of qcow2 files are, from the files' own tables.

The files are those of volume snapshots: QEMU writes them, and each is an increment on the one before it. A
backing file that a file names is never opened: the caller has opened the chain.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import NoReturn

from attrs import frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.qcow2_header import (
    COMPRESSION_HEADER_BYTES,
    CORRUPT,
    DIRTY,
    MAGIC,
    MAX_CLUSTER_BITS,
    MAX_L1_BYTES,
    MIN_CLUSTER_BITS,
    Qcow2Header,
)
from systemvm.wire.transfer_failure import TransferFailure

#: In an entry of an L2 table (docs/interop/qcow2.txt of QEMU).
_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED, _ZERO = 1 << 62, 1
#: Above the offset: which file of a chain has a cluster.
_FILE_SHIFT = 56
_READS_AS_ZEROS = 1  # in no place of a cluster, as these are multiples of 512


@frozen
class ClusterPlace:
    """The start of a cluster in one of the files."""

    file: int
    offset: int


@frozen
class _Layer:
    """One file of a chain, with the offsets of its L2 tables; 0 where it has none."""

    descriptor: int
    size_bytes: int
    header: Qcow2Header
    l1: Sequence[int]


class Qcow2Chain:
    """Files that were opened, the whole one first; all have clusters of one size.

    Raises: TransferError when a file is damaged, or has what no snapshot has.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        if not descriptors or len(descriptors) > 1 << 7:
            _damaged(f"it has {len(descriptors)} files")
        self._layers = [_read_layer(each) for each in descriptors]
        newest = self._layers[-1].header
        if any(layer.header.cluster_bits != newest.cluster_bits for layer in self._layers):
            _damaged("its files have clusters of different sizes")
        self.virtual_size_bytes = newest.size
        self.cluster_bytes = newest.cluster_bytes
        self.table_count = newest.l1_entries_needed

    def tables(self) -> Iterator[array[int]]:
        """Yield the places of each table's clusters: 0 where all reads as zeros, else for `place_of`."""
        clusters = -(-self.virtual_size_bytes // self.cluster_bytes)
        for number in range(self.table_count):
            left = clusters - number * (self.cluster_bytes // 8)
            yield self._table(number, min(left, self.cluster_bytes // 8))

    def _table(self, number: int, count: int) -> array[int]:
        places = array("Q", bytes(8 * count))
        for index in reversed(range(len(self._layers))):
            layer = self._layers[index]
            offset = layer.l1[number] if number < len(layer.l1) else 0
            if offset:
                _fill(places, index, layer, _read_table(layer, offset, self.cluster_bytes)[:count])
        for position, place in enumerate(places):
            if place == _READS_AS_ZEROS:
                places[position] = 0
        return places


def place_of(packed: int) -> ClusterPlace:
    return ClusterPlace(packed >> _FILE_SHIFT, packed & _OFFSET_MASK)


def _fill(places: array[int], index: int, layer: _Layer, entries: array[int]) -> None:
    """Note where a file has clusters that no newer one has."""
    cluster_bytes, above = layer.header.cluster_bytes, index << _FILE_SHIFT
    for position, entry in enumerate(entries):
        if not entry or places[position]:
            continue
        if entry & _COMPRESSED:
            _damaged("it has compressed clusters")
        offset = entry & _OFFSET_MASK
        if entry & _ZERO:
            places[position] = _READS_AS_ZEROS
        elif offset:
            if offset % cluster_bytes or offset >= layer.size_bytes:
                _damaged(f"a cluster is at byte {offset} of {layer.size_bytes}")
            places[position] = above | offset


def _read_layer(descriptor: int) -> _Layer:
    size_bytes = os.fstat(descriptor).st_size
    head = os.pread(descriptor, COMPRESSION_HEADER_BYTES, 0)
    if not head.startswith(MAGIC) or len(head) < COMPRESSION_HEADER_BYTES:
        _damaged("it is not in the format QCOW2")
    header = Qcow2Header.read(head)
    if header.version not in (2, 3) or header.crypt_method or header.incompatible & ~DIRTY:
        what = "it is marked corrupt" if header.incompatible & CORRUPT else "it has features of no snapshot"
        _damaged(what)
    if not MIN_CLUSTER_BITS <= header.cluster_bits <= MAX_CLUSTER_BITS:
        _damaged(f"its clusters have 2^{header.cluster_bits} bytes")
    if not header.size or 8 * header.l1_size > MAX_L1_BYTES or header.l1_size < header.l1_entries_needed:
        _damaged(f"its L1 table has {header.l1_size} entries for {header.size} bytes")
    l1 = _read_words(descriptor, header.l1_table_offset, header.l1_entries_needed)
    offsets = [entry & _OFFSET_MASK for entry in l1]
    if any(each % header.cluster_bytes for each in offsets):
        _damaged("an L2 table does not begin with a cluster")
    return _Layer(descriptor, size_bytes, header, offsets)


def _read_table(layer: _Layer, offset: int, cluster_bytes: int) -> array[int]:
    return _read_words(layer.descriptor, offset, cluster_bytes // 8)


def _read_words(descriptor: int, offset: int, count: int) -> array[int]:
    data = os.pread(descriptor, 8 * count, offset)
    if len(data) < 8 * count:
        _damaged(f"a table at byte {offset} is truncated")
    words = array("Q", data)
    if sys.byteorder == "little":
        words.byteswap()
    return words


def _damaged(why: str) -> NoReturn:
    raise TransferError(
        TransferFailure.FORMAT_DAMAGED, f"the snapshot's file is damaged: {why}", "take another snapshot"
    )
