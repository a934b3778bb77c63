# SPDX-License-Identifier: Apache-2.0
"""OVAs with disks of every format, TARs, and ISOs that are more than that."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterator
from functools import partial

from image_corpus import archives, vhd, vhdx, vmdk
from image_corpus.archives import Member, archive, descriptor, manifest, special
from image_corpus.case import DAMAGED, MISMATCH, TOO_LARGE, UNSAFE, Case
from integration.ssvm_lab import disk_images
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

OVA, TAR, ISO = ImageFormat.OVA, ImageFormat.TAR, ImageFormat.ISO
SIZE = 8 << 20
OVF = ("vm.ovf", descriptor())
DISK = ("disk.vmdk", vmdk.stream())
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def good() -> Iterator[Case]:
    def ova(what: str, *members: Member, size: int = SIZE) -> Case:
        return Case(f"OVA {what}", OVA, partial(archive, members), size)

    for name, tar_format in FORMATS.items():
        yield Case(f"OVA of {name}", OVA, partial(archive, [OVF, DISK], tar_format), SIZE)
        yield Case(f"TAR of {name}", TAR, partial(_tree, tar_format), len(_tree(tar_format)))
    for algorithm in ("SHA1", "SHA256", "SHA512"):
        mf = ("vm.mf", manifest([OVF, DISK], algorithm))
        yield ova(f"with {algorithm} behind", OVF, DISK, mf)
        yield ova(f"with {algorithm} before its disk", OVF, mf, DISK)
    yield ova("with blanks in its manifest", OVF, DISK, ("vm.mf", manifest([OVF, DISK], "SHA256", " ")))
    yield ova("with a certificate", OVF, ("vm.mf", manifest([OVF, DISK])), ("vm.cert", b"a signature"), DISK)
    blank = descriptor(href="Meine%20Br%C3%BCcke.vmdk")
    named = ("Meine Brücke.vmdk", DISK[1])
    for name, tar_format in FORMATS.items():
        members = [("Brücke (1).ovf", blank), named]
        yield Case(f"OVA of {name} with blanks and umlauts", OVA, partial(archive, members, tar_format), SIZE)
    for key, value in (("SCHILY.ino", "7"), ("path", "disk.vmdk"), ("comment", "none")):
        member = archives.with_pax("disk.vmdk", DISK[1], {key: value})
        yield Case(f"OVA with the harmless header {key}", OVA, partial(_join, member), SIZE)
    yield ova("with names below a dot", ("./vm.ovf", OVF[1]), ("./disk.vmdk", DISK[1]))
    yield ova("with NVRAM and an ISO", OVF, DISK, ("vm.nvram", b"n" * 8684), ("tools.iso", disk_images.iso()))
    disks = {"vmdk": vmdk.sparse(), "vhd": vhd.dynamic(), "vhdx": vhdx.image()}
    for extension, disk in disks.items():
        yield Case(f"OVA with a {extension}", OVA, partial(_with_disk, f"disk.{extension}", disk), SIZE)
    yield Case("OVA with a fixed vhd", OVA, partial(_with_disk, "disk.vhd", vhd.fixed()), 4 << 20)
    yield Case("OVA with a qcow2", OVA, partial(_with_disk, "disk.qcow2", disk_images.qcow2()), 1 << 30)
    yield Case("OVA with a raw disk", OVA, partial(_with_disk, "disk.img", disk_images.raw()), 4 << 20)
    for units, capacity in (
        ("byte * 2^20", "8"),
        ("byte*2^10", "8192"),
        ("MegaBytes", "8"),
        ("byte", "8388608"),
        ("byte * 10^6", "9"),
        ("byte", "${disk.size}"),
        ("furlong", "8"),
    ):
        yield ova(f"of {capacity} {units}", ("vm.ovf", descriptor(capacity=capacity, units=units)), DISK)
    yield Case("OVA without end blocks", OVA, partial(_members, OVF, DISK), SIZE)
    yield Case("ISO with a volume size", ISO, partial(_iso, 32, 64 * 1024), 64 * 1024)
    yield Case("ISO without its padding", ISO, partial(_iso, 150 + 32, 64 * 1024), 64 * 1024)
    yield Case(
        "ISO that boots as a disk", ISO, partial(_iso, 32, 64 * 1024, bytes(510) + b"\x55\xaa"), 64 * 1024
    )
    yield Case("ISO with a GPT", ISO, partial(_iso, 32, 64 * 1024, bytes(512) + b"EFI PART"), 64 * 1024)
    yield Case("UDF", ISO, partial(_udf, 64 * 1024), 64 * 1024)


def bad() -> Iterator[Case]:
    def ova(what: str, code: TransferFailure, *members: Member) -> Case:
        return Case(f"OVA {what}", OVA, partial(archive, members), code=code)

    def ovf(what: str, code: TransferFailure, content: bytes) -> Case:
        return ova(what, code, ("vm.ovf", content), DISK)

    yield from _bad_members()
    yield from _bad_manifests()
    file = '<File ovf:href="disk.vmdk" ovf:id="file1"/>'
    disk = '<Disk ovf:fileRef="file1" ovf:capacity="1" ovf:diskId="d"/>'
    entity = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    outside = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    yield ovf("with entities in its OVF", UNSAFE, descriptor(prologue=entity))
    yield ovf("with an external entity in its OVF", UNSAFE, descriptor(prologue=outside))
    yield ovf("with a DTD elsewhere", UNSAFE, descriptor(prologue='<!DOCTYPE a SYSTEM "http://x.test/a">'))
    yield ovf("with an OVF that is no XML", DAMAGED, b"this is not XML")
    yield ovf("with an OVF that is cut", DAMAGED, descriptor()[:200])
    yield ovf("with an empty OVF", DAMAGED, b"")
    yield ovf(
        "with an OVF in an unknown encoding", DAMAGED, b'<?xml version="1.0" encoding="x-none"?><Envelope/>'
    )
    yield ovf("with an OVF of zeros", DAMAGED, bytes(100))
    yield ovf("with another root in its OVF", DAMAGED, descriptor(root="Page"))
    yield ovf(
        "with an OVF nested too deep", DAMAGED, b"<Envelope>" + b"<a>" * 100 + b"</a>" * 100 + b"</Envelope>"
    )
    yield ovf("without disks in its OVF", UNSAFE, descriptor(disks=""))
    yield ovf("with two disks in its OVF", UNSAFE, descriptor(disks=disk * 2))
    yield ovf("with a blank disk beside", UNSAFE, descriptor(disks=disk + '<Disk ovf:capacity="1"/>'))
    yield ovf("with a blank disk", DAMAGED, descriptor(disks='<Disk ovf:capacity="1"/>'))
    yield ovf("with a disk of another file", DAMAGED, descriptor(disks='<Disk ovf:fileRef="file2"/>'))
    yield ovf("with a file twice", DAMAGED, descriptor(files=file * 2))
    yield ovf(
        "with 300 files", DAMAGED, descriptor(files="".join(f'<File ovf:id="f{n}"/>' for n in range(300)))
    )
    yield ovf("with a parent of its disk", UNSAFE, descriptor(disk_more='ovf:parentRef="vmdisk0"'))
    yield ovf("with a compressed disk", UNSAFE, descriptor(file_more='ovf:compression="gzip"'))
    yield ovf("with a divided disk", UNSAFE, descriptor(file_more='ovf:chunkSize="1000"'))
    for href in ("http://x.test/disk", "/etc/passwd", "disk.vdi", ""):
        yield ovf(f"whose disk is {href or 'nowhere'}", UNSAFE, descriptor(href=href))
    for href in ("../disk.vmdk", "http://x.test/disk.vmdk", "other.vmdk"):
        yield ovf(f"whose disk is {href}", UNSAFE, descriptor(href=href))
    yield ovf("of 17 TiB by its OVF", TOO_LARGE, descriptor(capacity="17", units="byte * 2^40"))
    yield ovf("of no size by its OVF", DAMAGED, descriptor(capacity="0"))
    yield from _bad_disks()
    yield from _bad_tars()
    yield from _bad_isos()


def _bad_members() -> Iterator[Case]:
    def ova(what: str, code: TransferFailure, *members: Member) -> Case:
        return Case(f"OVA {what}", OVA, partial(archive, members), code=code)

    yield ova("with a symbolic link", UNSAFE, OVF, special("disk.vmdk", tarfile.SYMTYPE, "/etc/passwd"))
    yield ova("with a hard link", UNSAFE, OVF, DISK, special("b.nvram", tarfile.LNKTYPE, "disk.vmdk"))
    for name, kind in (
        ("device", tarfile.CHRTYPE),
        ("block device", tarfile.BLKTYPE),
        ("pipe", tarfile.FIFOTYPE),
        ("directory", tarfile.DIRTYPE),
        ("contiguous file", tarfile.CONTTYPE),
    ):
        yield ova(f"with a {name}", UNSAFE, OVF, special("x", kind), DISK)
    for name in (
        "../vm.nvram",
        "/etc/cron.d/x",
        "a/b.nvram",
        "..",
        ".hidden",
        "-o.nvram",
        "a\nb.nvram",
        "a\x1b[2J",
        "template.properties",
        "TEMPLATE.PROPERTIES",
        "x;rm.nvram",
        "$(id).nvram",
    ):
        yield ova(f"with a member {name!r}", UNSAFE, OVF, (name, b"x"), DISK)
    yield ova("with a disk twice", UNSAFE, OVF, DISK, DISK)
    yield ova("with a disk twice but for its case", UNSAFE, OVF, DISK, ("DISK.vmdk", DISK[1]))
    yield ova("with a second disk", UNSAFE, OVF, DISK, ("disk2.vmdk", DISK[1]))
    yield ova("with a disk of another name", UNSAFE, OVF, ("disk1.vmdk", DISK[1]))
    yield ova("with two descriptors", UNSAFE, OVF, DISK, ("b.ovf", OVF[1]))
    yield ova("that begins with its disk", DAMAGED, DISK, OVF)
    yield ova("without a descriptor", DAMAGED, ("vm.nvram", b"x"))
    yield ova("without its disk", DAMAGED, OVF)
    yield ova("of nothing", MISMATCH)
    yield ova("with a descriptor of 2 MiB", DAMAGED, ("vm.ovf", b" " * (2 << 20)), DISK)
    yield ova("with 100 members", UNSAFE, OVF, *[(f"n{n}.nvram", b"") for n in range(100)], DISK)
    for key, value in (
        ("path", "../disk.vmdk"),
        ("linkpath", "/etc/passwd"),
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.name", "x"),
        ("hdrcharset", "BINARY"),
        ("SCHILY.xattr.a", "b"),
    ):
        member = archives.with_pax("disk.vmdk", DISK[1], {key: value})
        yield Case(f"OVA with the extended header {key}", OVA, partial(_join, member), code=UNSAFE)
    for value in ("-1", "many", "1" * 30, str(len(DISK[1]) * 2)):
        member = archives.with_pax("disk.vmdk", DISK[1], {"size": value})
        yield Case(f"OVA with the extended size {value}", OVA, partial(_join, member), code=DAMAGED)


def _bad_manifests() -> Iterator[Case]:
    def mf(what: str, content: bytes, code: TransferFailure = DAMAGED) -> Case:
        return Case(f"OVA with {what}", OVA, partial(archive, [OVF, DISK, ("vm.mf", content)]), code=code)

    right = manifest([OVF, DISK])
    yield mf("a wrong digest of its disk", manifest([OVF, ("disk.vmdk", b"x")]))
    yield mf("a wrong digest of its OVF", manifest([("vm.ovf", b"x"), DISK]))
    yield mf("a digest of SHA1 that is wrong", manifest([OVF, ("disk.vmdk", b"x")], "SHA1"))
    yield mf("a manifest without its disk", manifest([OVF]))
    yield mf("a manifest without its OVF", manifest([DISK]))
    yield mf("an empty manifest", b"")
    yield mf("a manifest of a file that is missing", manifest([OVF, DISK, ("b.nvram", b"x")]))
    yield mf("a manifest with a line twice", right + right)
    yield mf("a manifest of MD5", right.replace(b"SHA256", b"MD5"))
    yield mf("a manifest of garbage", b"\xff\xfe garbage")
    yield mf("a manifest whose digest is too short", right.replace(b"= ", b"= ff"[:2])[:100])
    yield mf("a manifest of 100 KiB", b"\n" * (100 << 10))
    wrong = ("vm.mf", manifest([OVF, ("disk.vmdk", b"x")]))
    yield Case("OVA with a wrong manifest first", OVA, partial(archive, [OVF, wrong, DISK]), code=DAMAGED)
    yield Case(
        "OVA with two manifests",
        OVA,
        partial(archive, [OVF, ("a.mf", right), ("b.mf", right), DISK]),
        code=UNSAFE,
    )


def _bad_disks() -> Iterator[Case]:
    for name, href, disk, code in (
        ("flat VMDK", "disk.vmdk", vmdk.embedded('RW 1 FLAT "/etc/passwd" 0'), UNSAFE),
        ("truncated VMDK", "disk.vmdk", vmdk.stream()[:-1024], DAMAGED),
        ("raw disk as VMDK", "disk.vmdk", disk_images.raw(), MISMATCH),
        ("QCOW2 as VMDK", "disk.vmdk", disk_images.qcow2(), MISMATCH),
        ("VMDK as raw disk", "disk.img", vmdk.sparse(), MISMATCH),
        ("backed QCOW2", "disk.qcow2", disk_images.qcow2(backing="/etc/passwd"), UNSAFE),
        ("QCOW2 of 17 TiB", "disk.qcow2", disk_images.qcow2(size=17 << 40), TOO_LARGE),
        ("differencing VHD", "disk.vhd", bytes(4 << 20) + vhd.footer(4 << 20, 4), UNSAFE),
        (
            "VHDX with a log",
            "disk.vhdx",
            vhdx.image(headers=(vhdx.header(1), vhdx.header(2, log_guid=b"l" * 16))),
            DAMAGED,
        ),
        ("empty disk", "disk.vmdk", b"", MISMATCH),
    ):
        yield Case(f"OVA with a {name}", OVA, partial(_with_disk, href, disk), code=code)


def _bad_tars() -> Iterator[Case]:
    whole = archive([OVF, DISK])
    for cut in (600, 2000, 20_000, len(whole) - 10240):
        for image_format in (OVA, TAR):
            yield Case(
                f"{image_format.value} cut at {cut}", image_format, partial(_cut, whole, cut), code=DAMAGED
            )
    for image_format in (OVA, TAR):
        name = image_format.value
        yield Case(f"{name} with data behind", image_format, lambda: whole + b"x" * 512, code=DAMAGED)
        yield Case(f"{name} with a damaged header", image_format, lambda: b"x" + whole[1:], code=DAMAGED)
        yield Case(f"{name} of a negative size", image_format, lambda: _sized(b"\xff" * 12), code=DAMAGED)
        yield Case(
            f"{name} of 2^90 bytes", image_format, lambda: _sized(b"\x80\0\xff" + bytes(9)), code=DAMAGED
        )
        yield Case(
            f"{name} of a size that is no number", image_format, lambda: _sized(b"9" * 12), code=DAMAGED
        )
        yield Case(f"QCOW2 as {name}", image_format, disk_images.qcow2, code=MISMATCH)
        yield Case(f"raw as {name}", image_format, disk_images.raw, code=MISMATCH)
        yield Case(f"page as {name}", image_format, lambda: b"<html>".ljust(2048), code=MISMATCH)
        yield Case(f"zeros as {name}", image_format, lambda: bytes(10240), code=MISMATCH)
        yield Case(f"nothing as {name}", image_format, lambda: b"", code=MISMATCH)
        yield Case(
            f"{name} that is a VDI as well",
            image_format,
            lambda: _resummed(whole[:64] + b"\x7f\x10\xda\xbe" + whole[68:]),
            code=UNSAFE,
        )
        yield Case(
            f"{name} that is a VMDK as well",
            image_format,
            lambda: archive([('#\nversion=1\nRW 1 FLAT "/etc/passwd" 0', b"x")]),
            code=UNSAFE,
        )
        long_name = tarfile.TarInfo("a" * 70_000).tobuf(tarfile.GNU_FORMAT)
        yield Case(f"{name} with a name of 70 KB", image_format, partial(_join, long_name), code=DAMAGED)
    for name in ("../a", "/etc/passwd", "a/../../b"):
        yield Case(f"TAR with a member {name}", TAR, partial(archive, [(name, b"x")]), code=UNSAFE)
        extended = archives.with_pax("a", b"x", {"path": name})
        yield Case(f"TAR with an extended name {name}", TAR, partial(bytes, extended), code=UNSAFE)
    yield Case("TAR as RAW", ImageFormat.RAW, lambda: whole, code=MISMATCH)
    yield Case("TAR as ISO", ISO, lambda: whole, code=MISMATCH)


def _bad_isos() -> Iterator[Case]:
    def iso(what: str, head: bytes) -> Case:
        return Case(f"ISO that is {what} as well", ISO, partial(_iso, 32, 64 * 1024, head), code=MISMATCH)

    yield iso("a QCOW2", disk_images.qcow2_header(backing="/etc/passwd"))
    yield iso("a VMDK", vmdk.header())
    yield iso("a VMDK descriptor", b'# Disk DescriptorFile\nversion=1\nRW 1 FLAT "/etc/passwd" 0\n')
    yield iso("a dynamic VHD", vhd.dynamic()[:2048])
    yield iso("a VHDX", b"vhdxfile")
    yield iso("a VDI", bytes(64) + b"\x7f\x10\xda\xbe")
    yield iso("LUKS", b"LUKS\xba\xbe\0\1")
    yield iso("a TAR", archive([("a", b"x")])[:1024])
    yield iso("gzip", b"\x1f\x8b\x08")
    yield iso("a page", b"<!DOCTYPE html>")
    yield iso("a program", b"\x7fELF\2\1\1")
    yield Case("ISO that is truncated", ISO, partial(_iso, 100_000, 64 * 1024), code=DAMAGED)
    yield Case(
        "ISO with another identifier",
        ISO,
        lambda: disk_images.iso().replace(b"CD001", b"CD002"),
        code=MISMATCH,
    )


def _with_disk(href: str, disk: bytes) -> bytes:
    return archive([("vm.ovf", descriptor(href=href)), (href, disk)])


def _join(member: bytes) -> bytes:
    return _members(OVF) + member + bytes(1024)


def _members(*members: tuple[str, bytes]) -> bytes:
    """Return an archive up to the end of its last member."""
    return archive(members)[: sum(512 + -(-len(data) // 512) * 512 for _, data in members)]


def _tree(tar_format: int) -> bytes:
    return archive(
        [
            special("etc", tarfile.DIRTYPE),
            ("etc/passwd", b"root"),
            special("bin", tarfile.SYMTYPE, "usr/bin"),
            special("dev/null", tarfile.CHRTYPE),
            ("etc/a name with blanks", b"x" * 1000),
        ],
        tar_format,
    )


def _cut(data: bytes, size: int) -> bytes:
    return data[:size]


def _sized(field: bytes) -> bytes:
    data = archive([OVF])
    return _resummed(data[:124] + field + data[136:])


def _resummed(data: bytes) -> bytes:
    """Return an archive whose first header has the right checksum again."""
    total = sum(data[:148]) + 8 * 32 + sum(data[156:512])
    return data[:148] + b"%06o\0 " % total + data[156:]


def _iso(sectors: int, size: int, head: bytes = b"") -> bytes:
    image = bytearray(disk_images.iso(size))
    image[: len(head)] = head
    struct.pack_into("<I44xH", image, 32768 + 80, sectors, 2048)
    return bytes(image)


def _udf(size: int) -> bytes:
    image = bytearray(size)
    image[32768:32775] = b"\0BEA01\1"
    return bytes(image)
