# SPDX-License-Identifier: Apache-2.0
"""VHDXs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

from image_corpus import vhdx
from image_corpus.case import DAMAGED, MISMATCH, TOO_LARGE, UNSAFE, Case
from image_corpus.vhdx import BAT_AT, DATA_AT, METADATA_AT, MIB, UNKNOWN, header, items, metadata, regions
from integration.ssvm_lab import disk_images
from systemvm.ssvm.formats import vhdx_tables as tables
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

VHDX = ImageFormat.VHDX
BOTH = [(tables.BAT, BAT_AT, MIB, 1), (tables.METADATA, METADATA_AT, MIB, 1)]


def good() -> Iterator[Case]:
    def image(what: str, **more: Any) -> Case:
        return Case(f"VHDX {what}", VHDX, partial(vhdx.image, **more), more.get("disk_bytes", 8 * MIB))

    yield image("of 8 MiB")
    yield image("with its block table first", swapped=True)
    yield image("without data", used=())
    yield image("that is full", used=(7, 6, 5, 4, 3, 2, 1, 0))
    for size in (512, 3 * MIB + 512, 1 << 40):
        yield image(
            f"of {size} bytes", disk_bytes=size, used=(0,), block_bytes=(32 if size > 1 << 30 else 1) * MIB
        )
    for block_bytes in (2 * MIB, 8 * MIB):
        yield image(f"with blocks of {block_bytes}", block_bytes=block_bytes, used=(0,))
    yield image("with blocks of 256 MiB", block_bytes=256 * MIB, used=())
    yield image("with physical sectors of 4096", physical=4096)
    yield image("whose blocks stay allocated", flags=1)
    yield image("whose first header is newer", headers=(header(9), header(8)))
    yield image("whose first header is damaged", headers=(header(9, damage=True), header(8)))
    yield image("whose second header is damaged", headers=(header(9), header(10, damage=True)))
    yield image("whose older header has a log", headers=(header(1, log_guid=b"l" * 16), header(2)))
    yield image("with two equal headers", headers=(header(3), header(3)))
    yield image("with an unknown optional region", region_entries=[*BOTH, (UNKNOWN, 64 * MIB, MIB, 0)])
    yield image("with an unknown optional item",
                metadata_region=metadata([*items().values(), (UNKNOWN, b"x", 1)]))  # fmt: skip
    for state in (0, 1, 2, 3):
        yield image(f"with a block in state {state}", entries={3: state})


def bad() -> Iterator[Case]:
    def image(what: str, code: TransferFailure, **more: Any) -> Case:
        return Case(f"VHDX {what}", VHDX, partial(vhdx.image, **more), code=code)

    def headers(what: str, code: TransferFailure = DAMAGED, **more: Any) -> Case:
        return image(what, code, headers=(header(1, **more), header(2, **more)))

    yield headers("without a valid header", damage=True)
    yield headers("without a header", magic=b"\0\0\0\0")
    yield headers("of version 2", version=2)
    yield headers("with a log of version 1", log_version=1)
    yield headers("that was not closed", log_guid=b"l" * 16)
    yield headers("with a log on its header", log_offset=0)
    yield headers("with a log off its place", log_offset=MIB + 512)
    yield headers("with a log of half a MiB", log_bytes=MIB // 2)
    yield headers("with a log on its metadata", log_offset=METADATA_AT)
    yield headers("with a log behind the end", log_offset=1 << 40)
    yield image("whose newer header has a log", DAMAGED, headers=(header(1), header(2, log_guid=b"l" * 16)))
    yield image("with two headers of one number", DAMAGED, headers=(header(3), header(3, log_bytes=0)))
    yield image("of another magic number", MISMATCH, magic=b"vhdxfilE")
    yield from _regions()
    yield from _metadata()
    yield from _blocks()
    yield Case("VHDX as VHD", ImageFormat.VHD, vhdx.image, code=MISMATCH)
    yield Case("VHDX as RAW", ImageFormat.RAW, vhdx.image, code=MISMATCH)
    yield Case("VHDX as ISO", ImageFormat.ISO, vhdx.image, code=MISMATCH)
    yield Case("raw as VHDX", VHDX, disk_images.raw, code=MISMATCH)
    yield Case("nothing as VHDX", VHDX, lambda: b"", code=MISMATCH)
    yield Case("VHDX that is a VDI as well", VHDX,
               lambda: vhdx.image()[:64] + b"\x7f\x10\xda\xbe" + vhdx.image()[68:], code=UNSAFE)  # fmt: skip
    for cut in (8, 70_000, 200_000, 300_000, MIB, METADATA_AT + 100, BAT_AT, BAT_AT + 100, DATA_AT + MIB):
        yield Case(f"VHDX cut at {cut}", VHDX, partial(_cut, cut), code=DAMAGED)


def _regions() -> Iterator[Case]:
    def region(what: str, code: TransferFailure, table: bytes) -> Case:
        return Case(f"VHDX {what}", VHDX, partial(vhdx.image, region_table=table), code=code)

    bat, meta = BOTH
    yield region("with a damaged region table", DAMAGED, regions(BOTH, damage=True))
    yield region("without a region table", DAMAGED, regions(BOTH, magic=b"\0\0\0\0"))
    yield region("with 2048 regions", DAMAGED, regions(BOTH, count=2048))
    yield region("with 4 billion regions", DAMAGED, regions(BOTH, count=0xFFFFFFFF))
    yield region("without metadata", DAMAGED, regions([bat]))
    yield region("without a block table", DAMAGED, regions([meta]))
    yield region("without regions", DAMAGED, regions([]))
    yield region("with a region twice", DAMAGED, regions([bat, meta, (tables.BAT, 64 * MIB, MIB, 1)]))
    yield region("with an unknown required region", UNSAFE, regions([*BOTH, (UNKNOWN, 64 * MIB, MIB, 1)]))
    for offset, length in ((0, MIB), (512, MIB), (3 * MIB + 512, MIB), (BAT_AT, 0), (BAT_AT, 100),
                           (METADATA_AT, MIB), (METADATA_AT - MIB, 2 * MIB), (1 << 40, MIB),
                           ((1 << 64) - MIB, MIB)):  # fmt: skip
        table = regions([(tables.BAT, offset, length, 1), meta])
        yield region(f"with a block table of {length} at {offset}", DAMAGED, table)


def _metadata() -> Iterator[Case]:
    def item(what: str, code: TransferFailure, changed: bytes) -> Case:
        return Case(f"VHDX {what}", VHDX, partial(vhdx.image, metadata_region=changed), code=code)

    def value(what: str, code: TransferFailure, **more: int) -> Case:
        return item(what, code, metadata(list(items(**more).values())))

    every = list(items().values())
    yield item("with damaged metadata", DAMAGED, metadata(every, magic=b"metadatA"))
    yield item("with 2048 items", DAMAGED, metadata(every, count=2048))
    yield item("with an item twice", DAMAGED, metadata([*every, every[0]]))
    yield item("with a parent locator", UNSAFE, metadata([*every, (tables.PARENT_LOCATOR, b"x" * 40, 4)]))
    yield item("with an unknown required item", UNSAFE, metadata([*every, (UNKNOWN, b"x", 4)]))
    yield item("with items on the table", DAMAGED, metadata(every, offset=100))
    yield item("with items behind the region", DAMAGED, metadata(every, offset=MIB))
    yield item("with items far behind", DAMAGED, metadata(every, offset=0xFFFFFFF0))
    yield item("with items that are too short", DAMAGED, metadata(every, length=2))
    yield item("without items", DAMAGED, metadata([]))
    for name in tables.ITEMS:
        yield item(
            f"without the item {_name(name)}", DAMAGED, metadata([each for each in every if each[0] != name])
        )
    yield value("with a parent", UNSAFE, flags=2)
    for block_bytes in (0, 512, MIB // 2, 3 * MIB, 512 * MIB):
        yield value(f"with blocks of {block_bytes}", DAMAGED, block_bytes=block_bytes)
    for sector in (0, 511, 1024, 8192):
        yield value(f"with sectors of {sector}", DAMAGED, sector=sector)
        yield value(f"with physical sectors of {sector}", DAMAGED, physical=sector)
    yield value("without a size", DAMAGED, disk_bytes=0)
    yield value("of half a sector", DAMAGED, disk_bytes=MIB + 100)
    yield value("with large sectors, which QEMU does not read", UNSAFE, sector=4096, physical=4096)
    yield value("of 17 TiB", TOO_LARGE, disk_bytes=17 << 40)
    yield value("of 16 EiB", TOO_LARGE, disk_bytes=(1 << 64) - 512)
    yield value("with a table that is too short", DAMAGED, disk_bytes=1 << 40)


def _blocks() -> Iterator[Case]:
    def block(what: str, code: TransferFailure, entry: int, **more: Any) -> Case:
        return Case(f"VHDX {what}", VHDX, partial(vhdx.image, entries={2: entry}, **more), code=code)

    for state in (4, 5):
        yield block(f"with a block in state {state}", DAMAGED, DATA_AT | state)
    yield block("with a block in its parent", UNSAFE, DATA_AT | 7)
    for swapped in (False, True):
        how = "its table first and " if swapped else ""
        yield block(f"with {how}a block behind the end", DAMAGED, 1 << 40 | 6, swapped=swapped)
        yield block(f"with {how}a block on its header", DAMAGED, 6, swapped=swapped)
        yield block(f"with {how}a block on its log", DAMAGED, MIB | 6, swapped=swapped)
        yield block(f"with {how}a block on its metadata", DAMAGED, METADATA_AT | 6, swapped=swapped)
        yield block(f"with {how}a block on its table", DAMAGED, BAT_AT | 6, swapped=swapped)
    moved = [(tables.BAT, 5 * MIB, MIB, 1), (tables.METADATA, METADATA_AT, MIB, 1)]
    yield block("with a block that reaches its table", DAMAGED, DATA_AT | 6, used=(), blocks=4,
                block_bytes=2 * MIB, region_entries=moved)  # fmt: skip
    yield Case("VHDX that is truncated", VHDX, partial(vhdx.image, blocks=1), code=DAMAGED)


def _name(item: uuid.UUID) -> str:
    return next(name for name, value in vars(tables).items() if value == item)


def _cut(size: int) -> bytes:
    return vhdx.image()[:size]
