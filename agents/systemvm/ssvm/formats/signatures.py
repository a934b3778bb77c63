# SPDX-License-Identifier: Apache-2.0
"""Identifies a file by its first bytes, so that no format passes under the name of another."""

from __future__ import annotations

from collections.abc import Iterator

from systemvm.ssvm import zstd_frames

HEAD_BYTES = 4096  # enough for all formats below; QEMU itself probes the first 512

_AT_START: tuple[tuple[bytes, str], ...] = (
    (b"QFI\xfb", "QCOW2"),
    (b"QED\x00", "QED"),
    (b"KDMV", "VMDK"),
    (b"COWD", "VMDK"),
    (b"vhdxfile", "VHDX"),
    (b"conectix", "VHD"),
    (b"LUKS\xba\xbe", "LUKS"),
    (b"WithoutFreeSpace", "Parallels"),
    (b"WithouFreSpacExt", "Parallels"),
    (b"Bochs Virtual HD Image", "Bochs"),
    (b"#!/bin/sh\n#V2.0 Format\n", "CLOOP"),
    (b"\x7fELF", "ELF program"),
)
_COMPRESSED: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (zstd_frames.MAGIC, "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x89LZO\x00\r\n\x1a\n", "lzop"),
)
_VDI_OFFSET, _VDI = 64, b"\x7f\x10\xda\xbe"
_TAR_OFFSET, _TAR = 257, b"ustar"
ARCHIVE = "TAR or OVA"


def disk_format(head: bytes) -> str | None:
    """Return the format that `head` begins.

    None for an unknown one (RAW and ISO have no magic number here).
    """
    return next(_matches(head), None)


def other_disk_formats(head: bytes, but: str) -> list[str]:
    """Return formats other than `but` that `head` matches: QEMU takes the first that a driver recognizes."""
    return [name for name in _matches(head) if name != but]


def _matches(head: bytes) -> Iterator[str]:
    """Yield all formats that `head` matches: at least those of each bdrv_probe function in QEMU's block/."""
    for magic, name in _AT_START:
        if head.startswith(magic):
            yield name
    if head[_VDI_OFFSET : _VDI_OFFSET + len(_VDI)] == _VDI:
        yield "VDI"
    if is_archive(head):
        yield ARCHIVE
    if _is_vmdk_descriptor(head):
        yield "VMDK"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if text.startswith((b"<!doctype html", b"<html")):
        yield "web page"
    if text.startswith(b"<?xml"):
        yield "XML document"


def is_archive(head: bytes) -> bool:
    return head[_TAR_OFFSET : _TAR_OFFSET + len(_TAR)] == _TAR


def _is_vmdk_descriptor(head: bytes) -> bool:
    """vmdk_probe of block/vmdk.c: `version=` is the first line that is neither blank nor a comment.

    A descriptor is a text that names other files of the hypervisor, so variants of its spelling match, too.
    """
    for line in head.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        text = line.strip(b" \t\r\0").lower()
        if text.startswith(b"#"):
            if text.lstrip(b"# \t").startswith(b"disk descriptorfile"):
                return True
        elif text:
            return text.replace(b" ", b"").startswith(b"version=")
    return False


def compression(head: bytes) -> str | None:
    """Return the compression that `head` begins; None for no known one."""
    for magic, name in _COMPRESSED:
        if head.startswith(magic):
            return name
    if len(head) >= 4 and zstd_frames.is_skippable(head):
        return "zstd"
    return None
