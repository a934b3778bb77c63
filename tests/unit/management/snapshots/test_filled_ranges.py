# SPDX-License-Identifier: Apache-2.0
"""Which ranges of a file are sent to a store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from systemvm.management.snapshots.filled_ranges import BLOCK_BYTES, MIN_GAP_BYTES, filled_ranges

#: Runs of blocks, with data or without, and a last block that is not whole.
RUNS = st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=8)


def test_long_ranges_of_zeros_are_left_out_and_short_ones_are_not() -> None:
    block, zeros = b"x" * BLOCK_BYTES, bytes(BLOCK_BYTES)
    gap = MIN_GAP_BYTES // BLOCK_BYTES
    data = zeros + block + zeros * (gap - 1) + block + zeros * gap + b"end"
    end = BLOCK_BYTES * (2 + gap)
    assert list(filled_ranges(data)) == [(BLOCK_BYTES, end), (end + MIN_GAP_BYTES, len(data))]
    assert list(filled_ranges(zeros * 3)) == list(filled_ranges(b"")) == []


@given(RUNS, st.binary(max_size=BLOCK_BYTES))
def test_what_is_left_out_is_zeros(runs: list[tuple[bool, int]], end: bytes) -> None:
    data = (
        b"".join((b"\0x" if is_filled else bytes(2)) * (BLOCK_BYTES // 2) * n for is_filled, n in runs) + end
    )
    copy = bytearray(len(data))
    for begin, stop in filled_ranges(data):
        copy[begin:stop] = data[begin:stop]
    assert copy == data
