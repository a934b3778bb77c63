# SPDX-License-Identifier: Apache-2.0
"""Right checksums for changed images, so that the checks behind them are reached."""

from __future__ import annotations

import struct

from systemvm.ssvm.formats.crc32c import crc32c


def resummed_vhd(data: bytes) -> bytes:
    buffer = bytearray(data)
    places = [len(data) - 512] + ([0] if data.startswith(b"conectix") else [])
    for start, size, field in [*((place, 512, 64) for place in places), (512, 1024, 36)]:
        if start != 512 or data[512:520] == b"cxsparse":
            struct.pack_into(">I", buffer, start + field, 0)
            struct.pack_into(">I", buffer, start + field, ~sum(buffer[start : start + size]) & 0xFFFFFFFF)
    return bytes(buffer)


def resummed_vhdx(data: bytes) -> bytes:
    buffer = bytearray(data)
    for start, size in ((64 << 10, 4096), (128 << 10, 4096), (192 << 10, 64 << 10), (256 << 10, 64 << 10)):
        struct.pack_into("<I", buffer, start + 4, 0)
        struct.pack_into("<I", buffer, start + 4, crc32c(bytes(buffer[start : start + size])))
    return bytes(buffer)
