# SPDX-License-Identifier: Apache-2.0
"""The Range header of a request (RFC 9110, 14.2): which bytes of a file are wanted."""

from __future__ import annotations

import re
from itertools import pairwise

from attrs import frozen

#: More ranges than this in one request are no client that resumes: the header is ignored.
MAX_RANGES = 32
#: Longer numbers than 2**63 are no position in a file.
_SPEC = re.compile(r"(?:([0-9]{1,19})-([0-9]{1,19})?|-([0-9]{1,19}))", re.ASCII)


@frozen
class ByteRange:
    """`length` bytes from `start`."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


def parse_ranges(header: str, size_bytes: int) -> list[ByteRange] | None:
    """Return the ranges that the file has, none when it has none of them (416), or None to ignore the header.

    Ranges that overlap are joined, so that no request makes a server send more than the file.

    >>> parse_ranges("bytes=0-1,-1", 10)
    [ByteRange(start=0, length=2), ByteRange(start=9, length=1)]
    """
    unit, equals, specs = header.partition("=")
    texts = specs.split(",")
    if unit.strip().lower() != "bytes" or not equals or len(texts) > MAX_RANGES:
        return None
    found: list[ByteRange] = []
    for text in texts:
        matched = _SPEC.fullmatch(text.strip(" \t"))
        if matched is None:
            return None
        first, last, suffix = matched.groups()
        if first is None:
            start, end = max(0, size_bytes - int(suffix)), size_bytes
        else:
            start, end = int(first), size_bytes if last is None else min(int(last) + 1, size_bytes)
            if last is not None and int(last) < start:
                return None
        if start < end:
            found.append(ByteRange(start, end - start))
    return _joined(found)


def _joined(ranges: list[ByteRange]) -> list[ByteRange]:
    """Return the ranges in the order of the request, or sorted and joined when two of them overlap."""
    ordered = sorted(ranges, key=lambda each: each.start)
    if all(before.end <= after.start for before, after in pairwise(ordered)):
        return ranges
    joined: list[ByteRange] = []
    for each in ordered:
        if joined and each.start <= joined[-1].end:
            start = joined[-1].start
            joined[-1] = ByteRange(start, max(joined[-1].end, each.end) - start)
        else:
            joined.append(each)
    return joined
