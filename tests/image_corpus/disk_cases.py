# SPDX-License-Identifier: Apache-2.0
"""QCOW2, RAW and ISO images, and files of one format that are registered as another."""

from __future__ import annotations

import struct

from integration.ssvm_lab import disk_images
from integration.ssvm_lab.disk_images import extension, qcow2
from systemvm.ssvm.limits import TIB
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

QCOW2, RAW, ISO = ImageFormat.QCOW2, ImageFormat.RAW, ImageFormat.ISO

GOOD: dict[str, tuple[ImageFormat, bytes]] = {
    "v3": (QCOW2, qcow2()),
    "v2": (QCOW2, qcow2(version=2)),
    "v2 with data where v3 has feature bits": (
        QCOW2,
        qcow2(version=2, extensions=extension(0x6803F857, b"x" * 48)),
    ),
    "dirty": (QCOW2, qcow2(incompatible=1)),
    "zstd clusters": (QCOW2, qcow2(incompatible=8, header_length=112, compression_type=1)),
    "extended L2": (QCOW2, qcow2(incompatible=16)),
    "extensions": (
        QCOW2,
        qcow2(extensions=extension(0x6803F857, b"x" * 100) + extension(0x23852875, b"y" * 24)),
    ),
    "long header": (QCOW2, qcow2(header_length=112)),
    "small clusters": (QCOW2, qcow2(cluster_bits=10, refcount_table_offset=3 << 16)),
    "a snapshot": (QCOW2, qcow2(snapshots=1, snapshots_offset=3 << 16)),
    "refcounts of 64 bits": (QCOW2, qcow2(refcount_order=6)),
    "raw": (RAW, disk_images.raw()),
    "raw of zeros": (RAW, bytes(4096)),
    "raw with a script": (RAW, b"#!/bin/sh\n# version=1\nexit\nversion=1\n".ljust(8192, b"\0")),
    "raw with a boot sector": (RAW, bytes(510) + b"\x55\xaa" + bytes(512)),
    "iso": (ISO, disk_images.iso()),
}

DATA_FILE = extension(0x44415441, b'json:{"driver":"nbd"}')
BAD: dict[str, tuple[ImageFormat, bytes, TransferFailure]] = {
    "backing file": (QCOW2, qcow2(backing="/etc/passwd"), TransferFailure.FORMAT_UNSAFE),
    "backing file in v2": (QCOW2, qcow2(version=2, backing="base.qcow2"), TransferFailure.FORMAT_UNSAFE),
    "backing file by json": (QCOW2, qcow2(backing='json:{"driver":"file"}'), TransferFailure.FORMAT_UNSAFE),
    "backing format": (QCOW2, qcow2(extensions=extension(0xE2792ACA, b"raw")), TransferFailure.FORMAT_UNSAFE),
    "data file bit": (QCOW2, qcow2(incompatible=4), TransferFailure.FORMAT_UNSAFE),
    "raw data file": (QCOW2, qcow2(autoclear=2), TransferFailure.FORMAT_UNSAFE),
    "data file by extension only": (QCOW2, qcow2(extensions=DATA_FILE), TransferFailure.FORMAT_UNSAFE),
    "data file by extension in v2": (
        QCOW2,
        qcow2(version=2, extensions=DATA_FILE),
        TransferFailure.FORMAT_UNSAFE,
    ),
    "data file behind another": (
        QCOW2,
        qcow2(extensions=extension(1, b"x" * 9) + DATA_FILE),
        TransferFailure.FORMAT_UNSAFE,
    ),
    "unknown bit 5": (QCOW2, qcow2(incompatible=32), TransferFailure.FORMAT_UNSAFE),
    "unknown bit 63": (QCOW2, qcow2(incompatible=1 << 63), TransferFailure.FORMAT_UNSAFE),
    "corrupt": (QCOW2, qcow2(incompatible=2), TransferFailure.FORMAT_DAMAGED),
    "encrypted": (QCOW2, qcow2(crypt_method=2), TransferFailure.FORMAT_UNSAFE),
    "version 1": (QCOW2, qcow2(version=1), TransferFailure.FORMAT_UNSAFE),
    "version 4": (QCOW2, qcow2(version=4), TransferFailure.FORMAT_UNSAFE),
    "8 EiB": (QCOW2, qcow2(size=1 << 63), TransferFailure.TOO_LARGE),
    "17 TiB": (QCOW2, qcow2(size=17 * TIB), TransferFailure.TOO_LARGE),
    "no size": (QCOW2, qcow2(size=0), TransferFailure.FORMAT_DAMAGED),
    "cluster bits 31": (QCOW2, qcow2(cluster_bits=31), TransferFailure.FORMAT_DAMAGED),
    "cluster bits 8": (QCOW2, qcow2(cluster_bits=8), TransferFailure.FORMAT_DAMAGED),
    "header length 3": (
        QCOW2,
        qcow2()[:100] + struct.pack(">I", 3) + qcow2()[104:],
        TransferFailure.FORMAT_DAMAGED,
    ),
    "refcount order 7": (QCOW2, qcow2(refcount_order=7), TransferFailure.FORMAT_DAMAGED),
    "refcount order 63": (QCOW2, qcow2(refcount_order=63), TransferFailure.FORMAT_DAMAGED),
    "L1 table too small": (
        QCOW2,
        qcow2(size=(1 << 30) + (2 << 29), l1_size=3),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "L1 table too small for extended L2": (
        QCOW2,
        qcow2(incompatible=16, l1_size=3),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "extended L2 with small clusters": (
        QCOW2,
        qcow2(incompatible=16, cluster_bits=13),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "L1 table off its cluster": (QCOW2, qcow2(l1_table_offset=(1 << 16) + 8), TransferFailure.FORMAT_DAMAGED),
    "L1 table on the header": (QCOW2, qcow2(l1_table_offset=0), TransferFailure.FORMAT_DAMAGED),
    "no refcount table": (QCOW2, qcow2(refcount_table_clusters=0), TransferFailure.FORMAT_DAMAGED),
    "refcount table too large": (QCOW2, qcow2(refcount_table_clusters=129), TransferFailure.FORMAT_DAMAGED),
    "refcount table off its cluster": (
        QCOW2,
        qcow2(refcount_table_offset=1000),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "refcount table behind the end": (
        QCOW2,
        qcow2(refcount_table_offset=4 << 16),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "compression type without its bit": (
        QCOW2,
        qcow2(header_length=112, compression_type=1),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "compression bit without a type": (QCOW2, qcow2(incompatible=8), TransferFailure.FORMAT_DAMAGED),
    "unknown compression type": (
        QCOW2,
        qcow2(incompatible=8, header_length=112, compression_type=2),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "dirty bitmaps": (
        QCOW2,
        qcow2(autoclear=1, extensions=extension(0x23852875, b"y" * 24)),
        TransferFailure.FORMAT_UNSAFE,
    ),
    "bitmaps of another length": (
        QCOW2,
        qcow2(extensions=extension(0x23852875, b"y" * 16)),
        TransferFailure.FORMAT_UNSAFE,
    ),
    "encryption header": (
        QCOW2,
        qcow2(extensions=extension(0x0537BE77, b"y" * 16)),
        TransferFailure.FORMAT_UNSAFE,
    ),
    "snapshot table behind the end": (
        QCOW2,
        qcow2(snapshots=1, snapshots_offset=4 << 16),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "snapshot table cut off": (
        QCOW2,
        qcow2(snapshots=1700, snapshots_offset=3 << 16),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "table of no snapshots off its cluster": (
        QCOW2,
        qcow2(snapshots_offset=511),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "table of no snapshots at an invalid offset": (
        QCOW2,
        qcow2(snapshots_offset=1 << 63),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "snapshot table off its cluster": (
        QCOW2,
        qcow2(snapshots=1, snapshots_offset=40),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "snapshot with much extra data": (
        QCOW2,
        qcow2(snapshots=1, snapshots_offset=3 << 16)[: 3 << 16]
        + (bytes(36) + struct.pack(">I", 1025)).ljust(1 << 16, b"\0"),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "snapshot with a table behind the end": (
        QCOW2,
        qcow2(snapshots=1, snapshots_offset=3 << 16)[: 3 << 16]
        + struct.pack(">QI", 3 << 16, 8193).ljust(1 << 16, b"\0"),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "qcow2 and vdi at once": (QCOW2, qcow2(snapshots_offset=0x7F10DABE << 32), TransferFailure.FORMAT_UNSAFE),
    "tables too large": (QCOW2, qcow2(l1_size=1 << 30), TransferFailure.FORMAT_DAMAGED),
    "table behind the end": (QCOW2, qcow2(l1_table_offset=1 << 40), TransferFailure.FORMAT_DAMAGED),
    "too many snapshots": (QCOW2, qcow2(snapshots=70_000), TransferFailure.FORMAT_DAMAGED),
    "endless extensions": (
        QCOW2,
        qcow2(extensions=extension(1, b"x" * 70_000)),
        TransferFailure.FORMAT_DAMAGED,
    ),
    "an end of extensions that is too long": (
        QCOW2,
        qcow2()[:108] + struct.pack(">I", 65536) + qcow2()[112:],
        TransferFailure.FORMAT_DAMAGED,
    ),
    "cut in the header": (QCOW2, qcow2()[:60], TransferFailure.FORMAT_DAMAGED),
    "cut after the header": (QCOW2, qcow2()[:70_000], TransferFailure.FORMAT_DAMAGED),
    "raw as qcow2": (QCOW2, disk_images.raw(), TransferFailure.FORMAT_MISMATCH),
    "nothing as qcow2": (QCOW2, b"", TransferFailure.FORMAT_MISMATCH),
    "qcow2 as raw": (RAW, qcow2(), TransferFailure.FORMAT_MISMATCH),
    "qcow2 as iso": (ISO, qcow2(), TransferFailure.FORMAT_MISMATCH),
    "polyglot of qcow2 and iso": (
        ISO,
        qcow2()[:32768] + disk_images.iso()[32768:],
        TransferFailure.FORMAT_MISMATCH,
    ),
    "vmdk as raw": (RAW, b"KDMV" + bytes(1020), TransferFailure.FORMAT_MISMATCH),
    "vmdk descriptor as raw": (
        RAW,
        b'# Disk DescriptorFile\nRW 1 FLAT "/etc/passwd" 0\n'.ljust(1024),
        TransferFailure.FORMAT_MISMATCH,
    ),
    "vmdk descriptor behind a comment": (
        RAW,
        b'# a comment\nversion=1\nRW 1 FLAT "/etc/passwd" 0\n'.ljust(1024),
        TransferFailure.FORMAT_MISMATCH,
    ),
    "vmdk descriptor behind blank lines": (
        RAW,
        b"  \r\n#x\ry\n\n \nversion=3\r\n".ljust(1024),
        TransferFailure.FORMAT_MISMATCH,
    ),
    "vmdk descriptor only": (RAW, b"version=2\n".ljust(512), TransferFailure.FORMAT_MISMATCH),
    "vmdk descriptor as iso": (
        ISO,
        b"#\nversion=1\n".ljust(32768) + disk_images.iso()[32768:],
        TransferFailure.FORMAT_MISMATCH,
    ),
    "bochs as raw": (RAW, b"Bochs Virtual HD Image".ljust(1024, b"\0"), TransferFailure.FORMAT_MISMATCH),
    "cloop as raw": (
        RAW,
        b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop".ljust(1024, b"\0"),
        TransferFailure.FORMAT_MISMATCH,
    ),
    "parallels as raw": (RAW, b"WithouFreSpacExt".ljust(1024, b"\0"), TransferFailure.FORMAT_MISMATCH),
    "dmg as raw": (RAW, b"\1" * 1024 + b"koly" + bytes(508), TransferFailure.FORMAT_MISMATCH),
    "vhdx as raw": (RAW, b"vhdxfile" + bytes(1016), TransferFailure.FORMAT_MISMATCH),
    "dynamic vhd as raw": (RAW, b"conectix" + bytes(1016), TransferFailure.FORMAT_MISMATCH),
    "fixed vhd as raw": (RAW, b"\1" * 1024 + b"conectix" + bytes(504), TransferFailure.FORMAT_MISMATCH),
    "vdi as raw": (
        RAW,
        b"<<< x >>>".ljust(64) + b"\x7f\x10\xda\xbe" + bytes(956),
        TransferFailure.FORMAT_MISMATCH,
    ),
    "qed as raw": (RAW, b"QED\0" + bytes(1020), TransferFailure.FORMAT_MISMATCH),
    "luks as raw": (RAW, b"LUKS\xba\xbe" + bytes(1018), TransferFailure.FORMAT_MISMATCH),
    "tar as raw": (
        RAW,
        b"disk.ovf".ljust(257, b"\0") + b"ustar\0" + bytes(761),
        TransferFailure.FORMAT_MISMATCH,
    ),
    "page as raw": (RAW, b"\n <!DOCTYPE html><html>".ljust(1024), TransferFailure.FORMAT_MISMATCH),
    "page as qcow2": (QCOW2, b"<html><body>404</body></html>".ljust(1024), TransferFailure.FORMAT_MISMATCH),
    "program as raw": (RAW, b"\x7fELF" + bytes(1020), TransferFailure.FORMAT_MISMATCH),
    "half a sector": (RAW, b"x" * 700, TransferFailure.FORMAT_DAMAGED),
    "nothing as raw": (RAW, b"", TransferFailure.FORMAT_DAMAGED),
    "nothing as iso": (ISO, b"", TransferFailure.FORMAT_MISMATCH),
    "short iso": (ISO, disk_images.iso()[:32770], TransferFailure.FORMAT_MISMATCH),
    "no descriptor": (ISO, bytes(65536), TransferFailure.FORMAT_MISMATCH),
}
