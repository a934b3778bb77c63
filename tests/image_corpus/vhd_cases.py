# SPDX-License-Identifier: Apache-2.0
"""VHDs, fixed and dynamic."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

from image_corpus import vhd
from image_corpus.case import DAMAGED, MISMATCH, UNSAFE, Case
from integration.ssvm_lab import disk_images
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

MIB = 1 << 20
VHD = ImageFormat.VHD


def good() -> Iterator[Case]:
    for size in (512, MIB, 3 * MIB + 512, 4 * MIB):
        yield Case(f"fixed VHD of {size} bytes", VHD, partial(vhd.fixed, size), size)
    for creator in (b"win ", b"qem2", b"tap\0", b"vs  ", b"d2v ", b"wa\0\0"):
        yield Case(f"fixed VHD of {creator!r}", VHD, partial(vhd.fixed, creator=creator), 4 * MIB)
    yield Case("fixed VHD with a boot sector", VHD,
               partial(vhd.fixed, content=bytes(510) + b"\x55\xaa"), 4 * MIB)  # fmt: skip
    yield Case("fixed VHD with a saved state", VHD, partial(vhd.fixed, saved=1), 4 * MIB)
    yield Case("fixed VHD with room behind its disk", VHD, partial(vhd.fixed, file_bytes=5 * MIB), 4 * MIB)
    for block_bytes in (512 * 1024, MIB, 2 * MIB, 4 * MIB):
        yield Case(f"dynamic VHD with blocks of {block_bytes}", VHD,
                   partial(vhd.dynamic, block_bytes=block_bytes, used=(0, 1)), 8 * MIB)  # fmt: skip
    yield Case("dynamic VHD without data", VHD, partial(vhd.dynamic, used=()), 8 * MIB)
    yield Case("dynamic VHD that is full", VHD, partial(vhd.dynamic, used=(3, 2, 1, 0)), 8 * MIB)
    yield Case("dynamic VHD with a long table", VHD, partial(vhd.dynamic, entries=1 << 20), 8 * MIB)
    yield Case("dynamic VHD of 2040 GiB", VHD, partial(vhd.dynamic, 2040 << 30, used=()), 2040 << 30)
    yield Case("dynamic VHD of 100 GiB", VHD, partial(vhd.dynamic, 100 << 30, used=(7, 51199)), 100 << 30)
    yield Case("dynamic VHD with its header further behind", VHD,
               partial(vhd.dynamic, gap_bytes=4096), 8 * MIB)  # fmt: skip
    yield Case("dynamic VHD of a size that is no multiple of a block", VHD,
               partial(vhd.dynamic, 7 * MIB + 512), 7 * MIB + 512)  # fmt: skip
    yield Case("dynamic VHD with different saved states", VHD,
               partial(vhd.dynamic, last={"saved": 1}), 8 * MIB)  # fmt: skip


def bad() -> Iterator[Case]:
    def fixed(what: str, code: TransferFailure, **more: Any) -> Case:
        return Case(f"fixed VHD {what}", VHD, partial(vhd.fixed, **more), code=code)

    yield fixed("with a wrong checksum", DAMAGED, checksum=1)
    yield fixed("with a checksum of zero", DAMAGED, checksum=0)
    yield fixed("without a cookie", MISMATCH, cookie=b"conectiX")
    yield fixed("of version 2", UNSAFE, version=0x20000)
    yield fixed("of version 0", UNSAFE, version=0)
    yield fixed("with a header offset", DAMAGED, data_offset=512)
    yield fixed("that is truncated", DAMAGED, file_bytes=3 * MIB)
    yield fixed("without its disk", DAMAGED, file_bytes=0)
    yield fixed("without a size", DAMAGED, disk_bytes=0, file_bytes=MIB)
    yield fixed("of half a sector", DAMAGED, disk_bytes=MIB + 100, file_bytes=2 * MIB)
    yield fixed("of 2041 GiB", DAMAGED, disk_bytes=2041 << 30, file_bytes=MIB)
    yield fixed("of 17 TiB", DAMAGED, disk_bytes=17 << 40, file_bytes=MIB)
    yield fixed("of 8 EiB", DAMAGED, disk_bytes=1 << 63, file_bytes=MIB)
    for name, head in (
        ("a QCOW2", disk_images.qcow2(backing="/etc/passwd")[:65536]),
        ("a VMDK", b"KDMV" + bytes(508)),
        ("a VMDK descriptor", b'# Disk DescriptorFile\nversion=1\nRW 1 FLAT "/etc/passwd" 0\n'),
        ("a VHDX", b"vhdxfile"), ("LUKS", b"LUKS\xba\xbe\0\1"), ("QED", b"QED\0"), ("gzip", b"\x1f\x8b\x08"),
        ("a page", b"<!DOCTYPE html><html>"), ("a VDI", bytes(64) + b"\x7f\x10\xda\xbe"),
        ("a TAR", bytes(257) + b"ustar\x0000"),
    ):  # fmt: skip
        yield fixed(f"that is {name} as well", MISMATCH, content=head)
    for kind in (0, 1, 5, 6):
        yield Case(f"VHD of type {kind}", VHD, partial(_footer_only, kind), code=DAMAGED)
    yield Case("VHD of type 4", VHD, partial(_footer_only, 4), code=UNSAFE)
    yield Case("fixed VHD with its footer in front", VHD, lambda: vhd.footer() + vhd.fixed(), code=DAMAGED)
    yield Case("half a footer", VHD, lambda: vhd.footer()[:300], code=DAMAGED)
    yield Case("footer behind garbage", VHD, lambda: vhd.fixed() + b"x", code=MISMATCH)
    yield Case("raw as VHD", VHD, disk_images.raw, code=MISMATCH)
    yield Case("nothing as VHD", VHD, lambda: b"", code=MISMATCH)
    yield from _bad_dynamic()


def _bad_dynamic() -> Iterator[Case]:
    def dynamic(what: str, code: TransferFailure, **more: Any) -> Case:
        return Case(f"dynamic VHD {what}", VHD, partial(vhd.dynamic, **more), code=code)

    def header(what: str, code: TransferFailure, **more: Any) -> Case:
        return dynamic(what, code, header=more)

    yield dynamic("with a wrong checksum in front", DAMAGED, first={"checksum": 5})
    yield dynamic("with a wrong checksum behind", DAMAGED, last={"checksum": 5})
    yield dynamic("that is a fixed one in front", DAMAGED, first={"disk_type": 2})
    yield dynamic("that is a fixed one behind", UNSAFE, last={"disk_type": 2})
    yield dynamic("that is differencing in front", UNSAFE, first={"disk_type": 4})
    yield dynamic("that is differencing behind", UNSAFE, last={"disk_type": 4})
    yield dynamic("with two sizes", UNSAFE, last={"disk_bytes": 6 * MIB})
    yield dynamic("of 4 EiB in front", DAMAGED, first={"disk_bytes": 1 << 62}, used=())
    yield dynamic("of 4 EiB behind", DAMAGED, last={"disk_bytes": 1 << 62}, used=())
    yield dynamic("without a size", DAMAGED, first={"disk_bytes": 0})
    yield dynamic("with a header nowhere", DAMAGED, first={"data_offset": 1 << 62})
    yield dynamic("with a header on its footer", DAMAGED, first={"data_offset": 0})
    yield dynamic("with a header off its sector", DAMAGED, first={"data_offset": 700})
    yield dynamic("with a short table", DAMAGED, entries=2, used=(0,))
    yield dynamic("with an endless table", DAMAGED, header={"entries": 0x7FFFFFFF})
    yield dynamic("with an empty table", DAMAGED, header={"entries": 0})
    yield dynamic("with a block behind the end", DAMAGED, table=struct.pack(">I", 1 << 20))
    yield dynamic("with a block on its footer", DAMAGED, table=struct.pack(">I", 0))
    yield dynamic(
        "with a last block far away", DAMAGED, table=struct.pack(">4I", *[0xFFFFFFFF] * 3, 0xFFFFFFFE)
    )
    yield header("without a magic number", DAMAGED, magic=b"cxsparsE")
    yield header("with a wrong checksum in its header", DAMAGED, checksum=7)
    yield header("with a header of version 2", UNSAFE, version=0x20000)
    yield header("with a parent", UNSAFE, parent=b"parent-identifier")
    yield header("with the name of a parent", UNSAFE, parent_name="parent.vhd".encode("utf-16-be"))
    yield header("with a parent locator", UNSAFE, locator=b"W2ru" + bytes(20))
    yield header("with a last parent locator", UNSAFE, locator=bytes(168) + b"W2ku" + bytes(20))
    yield header("with a table nowhere", DAMAGED, table_offset=1 << 62)
    yield header("with a table on its footer", DAMAGED, table_offset=0)
    yield header("with a table on its header", DAMAGED, table_offset=512)
    yield header("with a table off its sector", DAMAGED, table_offset=1537)
    for block_bytes in (0, 256, 3 * MIB, 512 * MIB, 1 << 31):
        yield header(f"with blocks of {block_bytes}", DAMAGED, block_bytes=block_bytes)
    whole = partial(vhd.dynamic)
    for cut in (256, 512, 1000, 1536, 2000, MIB, 2 * MIB):
        yield Case(f"dynamic VHD cut at {cut}", VHD, partial(_cut, cut), code=DAMAGED)
    yield Case("dynamic VHD without its last footer", VHD, lambda: whole()[:-512], code=DAMAGED)
    yield Case("dynamic VHD with a byte behind", VHD, lambda: whole() + b"\0", code=DAMAGED)
    yield Case("dynamic VHD as RAW", ImageFormat.RAW, whole, code=MISMATCH)
    yield Case("dynamic VHD as VHDX", ImageFormat.VHDX, whole, code=MISMATCH)


def _footer_only(kind: int) -> bytes:
    return bytes(4 * MIB) + vhd.footer(4 * MIB, kind)


def _cut(size: int) -> bytes:
    return vhd.dynamic()[:size]
