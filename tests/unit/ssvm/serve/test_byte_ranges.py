# SPDX-License-Identifier: Apache-2.0
"""Range headers: which bytes they name, and which headers are ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.serve.byte_ranges import MAX_RANGES, ByteRange, parse_ranges

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", [ByteRange(0, 1)]),
        ("bytes=10-", [ByteRange(10, 990)]),
        ("bytes=-10", [ByteRange(990, 10)]),
        ("bytes=-5000", [ByteRange(0, 1000)]),
        ("bytes=990-5000", [ByteRange(990, 10)]),
        ("BYTES = 1-2", [ByteRange(1, 2)]),
        ("bytes=5-6, 0-1", [ByteRange(5, 2), ByteRange(0, 2)]),
        ("bytes=0-5,3-9,20-21", [ByteRange(0, 10), ByteRange(20, 2)]),
        ("bytes=0-1,5000-", [ByteRange(0, 2)]),
        ("bytes=1000-", []),
        ("bytes=-0", []),
    ],
)
def test_ranges_within_the_file(header: str, wanted: list[ByteRange]) -> None:
    assert parse_ranges(header, SIZE) == wanted


@pytest.mark.parametrize(
    "header",
    [
        "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=1-2,", "bytes=+1-2", "bytes=1--2",
        "bytes=0x1-2", "items=0-1", "bytes=1-2-3", "bytes=\u0661-2", "bytes=" + "9" * 20 + "-",
        "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)),
    ],
)  # fmt: skip
def test_malformed_header_is_ignored(header: str) -> None:
    assert parse_ranges(header, SIZE) is None


@given(
    st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 1200)), min_size=1, max_size=MAX_RANGES),
)
def test_ranges_never_ask_for_more_than_the_file(pairs: list[tuple[int, int]]) -> None:
    header = "bytes=" + ",".join(f"{min(pair)}-{max(pair)}" for pair in pairs)
    found = parse_ranges(header, SIZE)
    assert found is not None
    covered = [byte for each in found for byte in range(each.start, each.end)]
    assert len(covered) == len(set(covered))
    wanted = {byte for pair in pairs for byte in range(min(pair), max(pair) + 1) if byte < SIZE}
    assert set(covered) == wanted


@given(st.text(max_size=60), st.integers(0, 2**63))
def test_any_text_is_parsed_or_ignored(text: str, size_bytes: int) -> None:
    found = parse_ranges(f"bytes={text}", size_bytes)
    assert all(0 <= each.start < each.end <= size_bytes for each in found or [])
