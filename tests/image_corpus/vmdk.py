# SPDX-License-Identifier: Apache-2.0
"""VMDKs: sparse and stream-optimized, with any field of header, footer and descriptor changed."""

from __future__ import annotations

import struct
import zlib

SECTOR = 512
CAPACITY = 16384  # 8 MiB
GD_AT_END = (1 << 64) - 1
_COMPRESSED = 1 << 16 | 1 << 17


def descriptor(
    create_type: str = "monolithicSparse",
    extents: str | None = None,
    *,
    capacity: int = CAPACITY,
    parent: str = "ffffffff",
    more: str = "",
    first: str = "# Disk DescriptorFile",
) -> bytes:
    extent = f'RW {capacity} SPARSE "disk.vmdk"' if extents is None else extents
    text = (
        f'{first}\nversion=1\nCID=12345678\nparentCID={parent}\ncreateType="{create_type}"\n\n'
        f'# Extent description\n{extent}\n\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = "4"\n'
        f'ddb.geometry.cylinders = "16"\nddb.adapterType = "ide"\n{more}'
    )
    return text.encode("latin-1")


def header(
    *,
    magic: bytes = b"KDMV",
    version: int = 1,
    flags: int = 3,
    capacity: int = CAPACITY,
    grain: int = 128,
    descriptor_offset: int = 1,
    descriptor_size: int = 20,
    entries: int = 512,
    directory: int = 26,
    redundant: int = 21,
    overhead: int = 128,
    line_ends: bytes = b"\n \r\n",
    compression: int = 0,
) -> bytes:
    fields = struct.pack(
        "<4sIIQQQQIQQQB4sH", magic, version, flags, capacity, grain, descriptor_offset, descriptor_size,
        entries, redundant, directory, overhead, 0, line_ends, compression,
    )  # fmt: skip
    return fields.ljust(SECTOR, b"\0")


def sparse(text: bytes | None = None, *, tables: tuple[int, ...] = (27,), **fields: object) -> bytes:
    """One grain of data at sector 128; descriptor at 1, directory at 26, its table at 27."""
    data = bytearray(256 * SECTOR)
    data[:SECTOR] = header(**fields)  # type: ignore[arg-type]
    content = descriptor() if text is None else text
    data[SECTOR : SECTOR + len(content)] = content
    struct.pack_into(f"<{len(tables)}I", data, 26 * SECTOR, *tables)
    struct.pack_into(f"<{len(tables)}I", data, 21 * SECTOR, *tables)
    struct.pack_into("<I", data, 27 * SECTOR, 128)
    data[128 * SECTOR :] = b"\xa5" * (128 * SECTOR)
    return bytes(data)


def stream(
    text: bytes | None = None,
    *,
    footer: dict[str, object] | None = None,
    footer_marker: int = 3,
    end_marker: bytes = b"",
    behind: bytes = b"",
    **fields: object,
) -> bytes:
    """A streamOptimized image as an export writes it: directory and footer at the end."""
    values: dict[str, object] = {"version": 3, "flags": 1 | _COMPRESSED, "directory": GD_AT_END,
                                 "redundant": 0, "compression": 1, "overhead": 128} | fields  # fmt: skip
    content = descriptor("streamOptimized") if text is None else text
    data = bytearray(header(**values) + content.ljust(127 * SECTOR, b"\0"))  # type: ignore[arg-type]
    packed = zlib.compress(b"\xa5" * 128 * SECTOR)
    data += _padded(struct.pack("<QI", 0, len(packed)) + packed)
    data += _marker(4, 1)
    table = len(data) // SECTOR
    data += struct.pack("<I", 128).ljust(4 * 512, b"\0")
    data += _marker(1, 2)
    directory = len(data) // SECTOR
    data += _padded(struct.pack("<I", table))
    data += _marker(1, footer_marker)
    data += header(**values | {"directory": directory} | (footer or {}))  # type: ignore[arg-type]
    data += end_marker.ljust(SECTOR, b"\0")
    return bytes(data) + behind


def embedded(extent: str, create_type: str = "monolithicFlat") -> bytes:
    """A header without a disk: QEMU opens the files that the descriptor names."""
    return sparse(descriptor(create_type, extent), capacity=0)


def _marker(sectors: int, kind: int) -> bytes:
    return struct.pack("<QII", sectors, 0, kind).ljust(SECTOR, b"\0")


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")
