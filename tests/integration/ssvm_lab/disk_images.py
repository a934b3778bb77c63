# SPDX-License-Identifier: Apache-2.0
"""Crafted disk images whose headers are valid but for one field."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from systemvm.service.slowness import scaled_s

CLUSTER_BITS = 16


def qcow2_header(
    *,
    version: int = 3,
    backing: str | None = None,
    size: int = 1 << 30,
    cluster_bits: int = CLUSTER_BITS,
    crypt_method: int = 0,
    incompatible: int = 0,
    header_length: int = 104,
    extensions: bytes = b"",
    l1_size: int | None = None,
    l1_table_offset: int = 1 << 16,
    refcount_table_offset: int = 2 << 16,
    refcount_table_clusters: int = 1,
    snapshots: int = 0,
    snapshots_offset: int = 0,
    autoclear: int = 0,
    refcount_order: int = 4,
    compression_type: int = 0,
) -> bytes:
    """Return a header with its extensions, without padding."""
    fixed_length = header_length if version == 3 else 72
    after = fixed_length + len(extensions) + 8
    name = (backing or "").encode()
    if l1_size is None:  # as many entries as the disk has
        entry_bits = 4 if version == 3 and incompatible & 16 else 3
        l1_size = max(1, -(-size >> max(0, 2 * cluster_bits - entry_bits))) if size < 1 << 50 else 1
    fields = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb", version, after if backing else 0, len(name), cluster_bits, size, crypt_method,
        l1_size, l1_table_offset, refcount_table_offset, refcount_table_clusters, snapshots, snapshots_offset,
    )  # fmt: skip
    if version == 3:
        fields += struct.pack(">QQQII", incompatible, 0, autoclear, refcount_order, header_length)
        fields += bytes([compression_type]) if header_length > 104 else b""
    return fields.ljust(fixed_length, b"\0") + extensions + bytes(8) + name


def qcow2(**fields: object) -> bytes:
    """Return a file of four clusters with that header, which contains the tables."""
    return qcow2_header(**fields).ljust(4 << 16, b"\0")  # type: ignore[arg-type]


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data.ljust(len(data) + 7 & ~7, b"\0")


def iso(size: int = 64 * 1024) -> bytes:
    image = bytearray(size)
    image[32768:32775] = b"\1CD001\1"
    image[40000:40010] = b"some files"
    return bytes(image)


def raw(size: int = 4 << 20) -> bytes:
    """Return a raw disk with data, a hole, and data."""
    part = bytes(range(1, 256)) * 257
    return (part.ljust(128 * 1024, b"\1") + bytes(size - 256 * 1024) + part.ljust(128 * 1024, b"\2"))[:size]


def real_qcow2(path: Path, *options: str, size: str = "64M") -> bytes:
    """Return an image that qemu-img created at `path`.

    For LUKS it measures the processor, which fails now and then beside other work.
    """
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), size]
    for _ in range(10):
        done = subprocess.run(command, capture_output=True, text=True, timeout=scaled_s(60.0), check=False)
        if "Unable to get accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    return path.read_bytes()
