# SPDX-License-Identifier: Apache-2.0
"""VMDKs: what one file contains, and every way to name another one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from image_corpus import vmdk
from image_corpus.case import DAMAGED, MISMATCH, TOO_LARGE, UNSAFE, Case
from image_corpus.vmdk import GD_AT_END, descriptor
from integration.ssvm_lab import disk_images
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

VMDK = ImageFormat.VMDK
SIZE = vmdk.CAPACITY * 512


def good() -> Iterator[Case]:
    def sparse(what: str, size: int = SIZE, **more: Any) -> Case:
        return Case(f"VMDK {what}", VMDK, partial(vmdk.sparse, **more), size)

    yield sparse("sparse")
    for version in (1, 2, 3):
        yield sparse(f"of version {version}", version=version)
    yield sparse("without a test of line ends", flags=2, line_ends=b"\0\0\0\0")
    yield sparse("with small grains", grain=16, tables=(27, 31))
    yield sparse("with large grains", grain=1024)
    yield sparse("read only", text=descriptor(extents=f'RDONLY {vmdk.CAPACITY} SPARSE "a.vmdk"'))
    yield sparse("with a comment", text=descriptor(more="# parent company\n"))
    yield sparse("with capital letters", text=descriptor("MONOLITHICSPARSE"))
    yield sparse("with line ends of Windows", text=descriptor().replace(b"\n", b"\r\n"))
    yield sparse("with a longer encoding", text=descriptor(more='encoding="UTF-8"\n'))
    yield sparse("with a parent's number in capitals", text=descriptor(parent="FFFFFFFF"))
    yield sparse("with odd sectors", size=16383 * 512, capacity=16383, text=descriptor(capacity=16383))
    yield Case("VMDK for streams", VMDK, vmdk.stream, SIZE)
    yield Case(
        "VMDK for streams with ESX' extent",
        VMDK,
        partial(
            vmdk.stream,
            descriptor("streamOptimized", f'RDONLY {vmdk.CAPACITY} SPARSE "generated-stream.vmdk"'),
        ),
        SIZE,
    )


def bad() -> Iterator[Case]:
    def sparse(what: str, code: TransferFailure, **more: Any) -> Case:
        return Case(f"VMDK {what}", VMDK, partial(vmdk.sparse, **more), code=code)

    yield sparse("of version 0", UNSAFE, version=0)
    yield sparse("of version 4", UNSAFE, version=4)
    yield sparse("that was transferred as text", DAMAGED, line_ends=b"\n \n\n")
    yield sparse("of no size", UNSAFE, capacity=0)
    yield sparse("of 17 TiB", TOO_LARGE, capacity=17 << 31)
    yield sparse("of more bytes than 64 bits", TOO_LARGE, capacity=1 << 62)
    yield sparse("with unknown compression", DAMAGED, compression=2)
    yield sparse("with compression without its flag", DAMAGED, compression=1)
    yield sparse("with the flag of compression alone", DAMAGED, flags=3 | 1 << 16)
    for entries in (0, 513, 0xFFFFFFFF):
        yield sparse(f"with tables of {entries} entries", DAMAGED, entries=entries)
    for grain in (0, 0x200001, 1 << 63):
        yield sparse(f"with grains of {grain} sectors", DAMAGED, grain=grain)
    yield sparse(
        "with a directory of 64 million entries",
        DAMAGED,
        capacity=1 << 34,
        grain=1,
        entries=1,
        text=descriptor(capacity=1 << 34),
    )
    yield sparse("without a directory", DAMAGED, directory=0)
    yield sparse("with a directory behind the end", DAMAGED, directory=1 << 30)
    yield sparse("with a directory nowhere", DAMAGED, directory=1 << 61)
    yield sparse("with data that begin behind the end", DAMAGED, overhead=1 << 30)
    yield sparse("with a table behind the end", DAMAGED, tables=(1 << 20,))
    yield sparse("without a descriptor", UNSAFE, descriptor_offset=0, descriptor_size=0)
    yield sparse("with a descriptor of no size", UNSAFE, descriptor_size=0)
    yield sparse("with a descriptor far behind", DAMAGED, descriptor_offset=1 << 20)
    yield sparse("with an endless descriptor", DAMAGED, descriptor_size=1 << 40)
    yield from _descriptors()
    yield from _streams()
    for name, text in (
        ("flat", b'# Disk DescriptorFile\nversion=1\nRW 1 FLAT "/etc/passwd" 0\n'),
        ("bare", b'version=1\ncreateType="monolithicFlat"\nRW 1 FLAT "/etc/passwd" 0\n'),
        ("commented", b'# a comment\n\nversion=1\nRW 1 FLAT "/etc/passwd" 0\n'),
        ("spaced", b'   \nversion = 1\nRW 1 FLAT "/etc/passwd" 0\n'),
        ("sparse", descriptor(extents='RW 2048 SPARSE "/secret.vmdk"')),
    ):
        yield Case(f"VMDK as a {name} descriptor", VMDK, partial(text.ljust, 4096), code=UNSAFE)
    yield Case("VMDK of an ESX host", VMDK, lambda: b"COWD" + bytes(4092), code=UNSAFE)
    yield Case(
        "VMDK that is a VDI as well",
        VMDK,
        lambda: vmdk.sparse()[:64] + b"\x7f\x10\xda\xbe" + vmdk.sparse()[68:],
        code=UNSAFE,
    )
    yield Case(
        "VMDK that is a TAR as well",
        VMDK,
        lambda: vmdk.sparse()[:257] + b"ustar\x0000" + vmdk.sparse()[265:],
        code=UNSAFE,
    )
    yield Case("VMDK as RAW", ImageFormat.RAW, vmdk.sparse, code=MISMATCH)
    yield Case("VMDK as VHD", ImageFormat.VHD, vmdk.sparse, code=MISMATCH)
    yield Case("raw as VMDK", VMDK, disk_images.raw, code=MISMATCH)
    yield Case("nothing as VMDK", VMDK, lambda: b"", code=MISMATCH)
    for cut in (4, 300, 512, 2000, 12_000, 13_400, 60_000):
        yield Case(f"VMDK cut at {cut}", VMDK, partial(_cut, cut), code=DAMAGED)


def _descriptors() -> Iterator[Case]:
    def text(what: str, content: bytes, code: TransferFailure = UNSAFE) -> Case:
        return Case(f"VMDK {what}", VMDK, partial(vmdk.sparse, content), code=code)

    for kind in (
        "monolithicFlat",
        "twoGbMaxExtentFlat",
        "twoGbMaxExtentSparse",
        "vmfs",
        "vmfsSparse",
        "fullDevice",
        "partitionedDevice",
        "vmfsRaw",
        "vmfsThin",
        "seSparse",
        "custom",
        "",
    ):
        yield text(f"of type {kind or 'none'}", descriptor(kind))
    size = vmdk.CAPACITY
    for name, extents in (
        ("flat", f'RW {size} FLAT "/etc/passwd" 0'),
        ("VMFS", f'RW {size} VMFS "a-flat.vmdk"'),
        ("zero", f"RW {size} ZERO"),
        ("raw", f'RW {size} VMFSRDM "/dev/sda"'),
        ("second sparse", f'RW {size} SPARSE "a"\nRW {size} SPARSE "b"'),
        ("second flat", f'RW {size} SPARSE "a"\nRW 1 FLAT "/etc/passwd" 0'),
        ("missing", ""),
        ("malformed", "RW many SPARSE a"),
        ("lower-case", f'rw {size} SPARSE "a"'),
    ):
        yield text(f"with a {name} extent", descriptor(extents=extents))
    yield text("with an extent of another size", descriptor(extents=f'RW {size + 1} SPARSE "a"'), DAMAGED)
    for parent in ("00000000", "12345678", "fffffffe", "none", ""):
        yield text(f"with the parent {parent or 'blank'}", descriptor(parent=parent))
    for word in ("parentFileNameHint", "PARENTFILENAMEHINT", "changeTrackPath", "nativeParentHint"):
        yield text(f"with {word}", descriptor(more=f'{word}="/etc/passwd"\n'))
    yield text("without a parent's number", descriptor().replace(b"parentCID=ffffffff\n", b""))
    yield text("with a parent in a comment", descriptor(more='# parentFileNameHint="/etc/passwd"\n'))
    yield text("with a parent behind zeros", descriptor() + b'\0\0parentFileNameHint="/etc/passwd"\n')
    yield text("with a second type", descriptor(more='createType="monolithicFlat"\n'))
    yield text("with a second parent", descriptor(more="parentCID=00000000\n"))
    yield text("that is encrypted", descriptor(more='encryption.keySafe = "vmware:key"\n'))
    yield text("with a line that is no setting", descriptor(more="garbage without a sign\n"))
    yield text("with a descriptor of zeros", bytes(100), DAMAGED)
    yield text("with a descriptor that begins otherwise", descriptor(first="# Disk File"), DAMAGED)
    behind = descriptor().ljust(20 * 512, b"\0")
    yield Case(
        "VMDK with another descriptor where QEMU looks",
        VMDK,
        partial(_moved_descriptor, behind, b'# Disk DescriptorFile\nparentFileNameHint="/etc/passwd"\n'),
        code=UNSAFE,
    )
    for kind in ("monolithicFlat", "monolithicSparse", "vmfs"):
        yield Case(
            f"VMDK whose descriptor names a {kind} file",
            VMDK,
            partial(vmdk.embedded, 'RW 1 FLAT "/etc/passwd" 0', kind),
            code=UNSAFE,
        )


def _streams() -> Iterator[Case]:
    def stream(what: str, code: TransferFailure, **more: Any) -> Case:
        return Case(f"VMDK for streams {what}", VMDK, partial(vmdk.stream, **more), code=code)

    yield stream("with another marker", DAMAGED, footer_marker=2)
    yield stream("without an end", DAMAGED, end_marker=b"\1")
    yield stream("with bytes behind", DAMAGED, behind=b"x")
    yield stream("with a sector behind", DAMAGED, behind=bytes(512))
    for name, fields in (
        ("capacity", {"capacity": 0}),
        ("larger capacity", {"capacity": 1 << 40}),
        ("descriptor", {"descriptor_offset": 200}),
        ("grain", {"grain": 64}),
        ("version", {"version": 1}),
        ("compression", {"compression": 0, "flags": 3}),
        ("entries", {"entries": 256}),
    ):
        yield stream(f"with another {name} in its footer", UNSAFE, footer=fields)
    yield stream("with a footer without a magic number", DAMAGED, footer={"magic": b"KDMW"})
    yield stream("with a footer without a directory", DAMAGED, footer={"directory": 0})
    yield stream("with a footer that has a footer", DAMAGED, footer={"directory": GD_AT_END})
    yield stream("with a directory behind the end", DAMAGED, footer={"directory": 1 << 40})
    yield stream("of a sparse one's type", UNSAFE, text=descriptor("monolithicFlat"))
    yield Case("VMDK for streams cut off", VMDK, lambda: vmdk.stream()[:-1024], code=DAMAGED)
    yield Case("VMDK for streams cut in its data", VMDK, lambda: vmdk.stream()[:66_000], code=DAMAGED)


def _moved_descriptor(real: bytes, other: bytes) -> bytes:
    data = bytearray(vmdk.sparse(other, descriptor_offset=100))
    data[100 * 512 : 100 * 512 + len(real)] = real
    return bytes(data)


def _cut(size: int) -> bytes:
    return vmdk.sparse()[:size]
