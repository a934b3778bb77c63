# SPDX-License-Identifier: Apache-2.0
"""VHDXs with any field of header, region table, metadata and block table changed, and right checksums."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence

from systemvm.ssvm.formats import vhdx_tables as tables
from systemvm.ssvm.formats.crc32c import crc32c

MIB = 1 << 20
LOG, METADATA_AT, BAT_AT, DATA_AT = MIB, 2 * MIB, 3 * MIB, 4 * MIB
UNKNOWN = uuid.UUID(int=0x1234)
Region = tuple[uuid.UUID, int, int, int]
Item = tuple[uuid.UUID, bytes, int]


def header(
    sequence: int = 1,
    *,
    log_guid: bytes = bytes(16),
    log_version: int = 0,
    version: int = 1,
    log_bytes: int = MIB,
    log_offset: int = LOG,
    magic: bytes = b"head",
    damage: bool = False,
) -> bytes:
    data = struct.pack("<4sIQ16s16s16sHHIQ", magic, 0, sequence, b"f" * 16, b"d" * 16, log_guid, log_version,
                       version, log_bytes, log_offset)  # fmt: skip
    return _with_checksum(data.ljust(4096, b"\0"), damage)


def regions(entries: Sequence[Region], *, count: int | None = None, magic: bytes = b"regi",
            damage: bool = False) -> bytes:  # fmt: skip
    data = struct.pack("<4sIII", magic, 0, len(entries) if count is None else count, 0)
    for name, offset, length, flags in entries:
        data += struct.pack("<16sQII", name.bytes_le, offset, length, flags)
    return _with_checksum(data.ljust(64 * 1024, b"\0"), damage)


def metadata(items: Sequence[Item], *, count: int | None = None, magic: bytes = b"metadata",
             offset: int | None = None, length: int | None = None) -> bytes:  # fmt: skip
    table = struct.pack("<8sHH20s", magic, 0, len(items) if count is None else count, b"")
    content = b""
    for name, value, flags in items:
        where = 64 * 1024 + len(content) if offset is None else offset
        size = len(value) if length is None else length
        table += struct.pack("<16sIII4s", name.bytes_le, where, size, flags, b"")
        content += value.ljust(16, b"\0")
    return (table.ljust(64 * 1024, b"\0") + content).ljust(MIB, b"\0")


def items(
    disk_bytes: int = 8 * MIB, block_bytes: int = MIB, sector: int = 512, physical: int = 512, flags: int = 0
) -> dict[uuid.UUID, Item]:
    found = [
        (tables.FILE_PARAMETERS, struct.pack("<II", block_bytes, flags), 4),
        (tables.DISK_SIZE, struct.pack("<Q", disk_bytes), 6),
        (tables.PAGE_83, b"p" * 16, 6),
        (tables.LOGICAL_SECTOR, struct.pack("<I", sector), 6),
        (tables.PHYSICAL_SECTOR, struct.pack("<I", physical), 6),
    ]
    return {each[0]: each for each in found}


def image(
    *,
    disk_bytes: int = 8 * MIB,
    block_bytes: int = MIB,
    used: Sequence[int] = (0, 5),
    headers: tuple[bytes, bytes] | None = None,
    region_entries: Sequence[Region] | None = None,
    region_table: bytes | None = None,
    metadata_region: bytes | None = None,
    entries: Mapping[int, int] | None = None,
    blocks: int | None = None,
    swapped: bool = False,
    magic: bytes = b"vhdxfile",
    **item_values: int,
) -> bytes:
    """`used` blocks from 4 MiB on; `swapped` has the block table before the metadata."""
    metadata_at, bat_at = (BAT_AT, METADATA_AT) if swapped else (METADATA_AT, BAT_AT)
    if region_entries is None:
        region_entries = [(tables.BAT, bat_at, MIB, 1), (tables.METADATA, metadata_at, MIB, 1)]
    if region_table is None:
        region_table = regions(region_entries)
    if metadata_region is None:
        values = items(disk_bytes, block_bytes, **item_values)
        metadata_region = metadata(list(values.values()))
    block_table = bytearray(MIB)
    for number, block in enumerate(used):
        struct.pack_into("<Q", block_table, 8 * block, DATA_AT + number * block_bytes | 6)
    for index, value in (entries or {}).items():
        struct.pack_into("<Q", block_table, 8 * index, value)
    data = bytearray(DATA_AT)
    data[:8] = magic
    first, second = headers or (header(1), header(2))
    data[64 * 1024 : 64 * 1024 + 4096] = first
    data[128 * 1024 : 128 * 1024 + 4096] = second
    data[192 * 1024 : 256 * 1024] = data[256 * 1024 : 320 * 1024] = region_table
    data[metadata_at : metadata_at + MIB] = metadata_region
    data[bat_at : bat_at + MIB] = block_table
    count = len(used) if blocks is None else blocks
    return bytes(data) + b"\xa5" * (count * block_bytes)


def _with_checksum(data: bytes, damage: bool) -> bytes:
    checksum = crc32c(data[:4] + bytes(4) + data[8:]) ^ damage
    return data[:4] + struct.pack("<I", checksum) + data[8:]
