# SPDX-License-Identifier: Apache-2.0
"""How large the parts of an upload are: small ones cost a mover less memory, and 10,000 must be enough."""

from __future__ import annotations

from systemvm.ssvm.limits import MIB
from systemvm.ssvm.s3.requests import MAX_PART_NUMBER

#: With it a mover has less than 40 MiB; enough for an image of 59 GiB.
SMALLEST_BYTES = 8 * MIB
#: Parts are sent a little before they are full, where the transfer can continue after a crash.
_USABLE = 0.75


def part_bytes(max_size_bytes: int, max_parts: int = MAX_PART_NUMBER) -> int:
    """Return the size of parts, whole MiB, with which an image of at most `max_size_bytes` fits.

    >>> part_bytes(50 << 30) >> 20, part_bytes(1 << 40) >> 20, part_bytes(50 << 30, 1000) >> 20
    (8, 140, 69)
    """
    needed = int(max_size_bytes / (max_parts * _USABLE))
    return max(SMALLEST_BYTES, -(-needed // MIB) * MIB)
