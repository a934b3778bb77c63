# SPDX-License-Identifier: Apache-2.0
"""VHDs: a footer, a header and a table with any field changed, and the checksums right unless they are it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MIB = 1 << 20
NO_OFFSET = (1 << 64) - 1


def footer(
    disk_bytes: int = 4 * MIB,
    disk_type: int = 2,
    *,
    data_offset: int = NO_OFFSET,
    version: int = 0x10000,
    creator: bytes = b"win ",
    cookie: bytes = b"conectix",
    checksum: int | None = None,
    saved: int = 0,
) -> bytes:
    fields = struct.pack(
        ">8sIIQI4sI4sQQHBBII16sB",
        cookie, 2, version, data_offset, 0x2B5A1C00, creator, 0xA0000, b"Wi2k", disk_bytes, disk_bytes,
        min(65535, disk_bytes // 512 // 16 // 63), 16, 63, disk_type, 0, bytes(range(16)), saved,
    )  # fmt: skip
    return _with_checksum(fields.ljust(512, b"\0"), 64, checksum)


def fixed(
    disk_bytes: int = 4 * MIB, content: bytes = b"", file_bytes: int | None = None, **more: object
) -> bytes:
    """A raw disk with a footer; `file_bytes` of disk if it is another number than the footer has."""
    size = disk_bytes if file_bytes is None else file_bytes
    return content.ljust(size, b"\0")[:size] + footer(disk_bytes, 2, **more)  # type: ignore[arg-type]


def dynamic_header(
    *,
    table_offset: int = 1536,
    entries: int = 2,
    block_bytes: int = 2 * MIB,
    magic: bytes = b"cxsparse",
    version: int = 0x10000,
    parent: bytes = b"",
    parent_name: bytes = b"",
    locator: bytes = b"",
    checksum: int | None = None,
) -> bytes:
    fields = struct.pack(">8sQQIIII16sII", magic, NO_OFFSET, table_offset, version, entries, block_bytes, 0,
                         parent.ljust(16, b"\0"), 0, 0)  # fmt: skip
    data = fields + parent_name.ljust(512, b"\0") + locator.ljust(192, b"\0")
    return _with_checksum(data.ljust(1024, b"\0"), 36, checksum)


def dynamic(
    disk_bytes: int = 8 * MIB,
    block_bytes: int = 2 * MIB,
    used: Sequence[int] = (0, 2),
    *,
    entries: int | None = None,
    table: bytes | None = None,
    header: dict[str, object] | None = None,
    first: dict[str, object] | None = None,
    last: dict[str, object] | None = None,
    gap_bytes: int = 0,
) -> bytes:
    """`used` blocks in their order; `first` and `last` change a footer, `gap_bytes` move the header."""
    count = -(-disk_bytes // block_bytes) if entries is None else entries
    start = 512 + gap_bytes
    table_offset = start + 1024
    table_bytes = -(-4 * count // 512) * 512
    bitmap_bytes = -(-block_bytes // 512 // 8 // 512) * 512
    sector = (table_offset + table_bytes) // 512
    places = [0xFFFFFFFF] * count
    for block in used:
        places[block] = sector
        sector += (bitmap_bytes + block_bytes) // 512
    written = struct.pack(f">{count}I", *places) if table is None else table
    fields: dict[str, object] = {"table_offset": table_offset, "entries": count, "block_bytes": block_bytes}
    common: dict[str, object] = {"disk_bytes": disk_bytes, "disk_type": 3, "data_offset": start}
    blocks = (b"\xff" * bitmap_bytes + b"\xa5" * block_bytes) * len(used)
    return (
        footer(**common | (first or {}))  # type: ignore[arg-type]
        + bytes(gap_bytes)
        + dynamic_header(**fields | (header or {}))  # type: ignore[arg-type]
        + written.ljust(table_bytes, b"\xff")
        + blocks
        + footer(**common | (last or {}))  # type: ignore[arg-type]
    )


def _with_checksum(data: bytes, offset: int, checksum: int | None) -> bytes:
    total = ~(sum(data) - sum(data[offset : offset + 4])) & 0xFFFFFFFF if checksum is None else checksum
    return data[:offset] + struct.pack(">I", total) + data[offset + 4 :]
