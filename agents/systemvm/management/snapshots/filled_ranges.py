# SPDX-License-Identifier: Apache-2.0
"""The ranges of a file that contain anything but zeros.

Most of a qcow2's tables is zeros: with clusters of 64 KiB an increment on 2 MiB has 320 KiB of tables, of
which 20 KiB are not. What is not written to a new file reads as zeros.
"""

from __future__ import annotations

from collections.abc import Iterator

#: What is compared at a time: less than a cluster, and at least what a file system allocates.
BLOCK_BYTES = 4096
#: A shorter range of zeros costs less than a message of its own.
MIN_GAP_BYTES = 4 * BLOCK_BYTES

_ZEROS = bytes(BLOCK_BYTES)


def filled_ranges(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each range that is not only zeros, at multiples of `BLOCK_BYTES`.

    Ranges with fewer zeros than `MIN_GAP_BYTES` between them are one.
    """
    begin: int | None = None
    end = 0
    for at in range(0, len(data), BLOCK_BYTES):
        if data.startswith(_ZEROS[: len(data) - at], at):
            continue
        if begin is not None and at - end >= MIN_GAP_BYTES:
            yield begin, end
            begin = None
        begin = at if begin is None else begin
        end = min(at + BLOCK_BYTES, len(data))
    if begin is not None:
        yield begin, end
