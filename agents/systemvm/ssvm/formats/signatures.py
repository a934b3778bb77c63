# SPDX-License-Identifier: Apache-2.0
"""How to tell what a file is from its first bytes, so that nothing passes under another format's name."""

from __future__ import annotations

from systemvm.ssvm import zstd_frames

HEAD_BYTES = 512  # enough for each of these

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


def disk_format(head: bytes) -> str | None:
    """The name of the format that `head` begins, None for no known one (RAW and ISO have no mark here)."""
    for magic, name in _AT_START:
        if head.startswith(magic):
            return name
    if head[_VDI_OFFSET : _VDI_OFFSET + len(_VDI)] == _VDI:
        return "VDI"
    if head[_TAR_OFFSET : _TAR_OFFSET + len(_TAR)] == _TAR:
        return "TAR or OVA"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if text.startswith(b"# disk descriptorfile"):
        return "VMDK"
    if text.startswith((b"<!doctype html", b"<html")):
        return "web page"
    if text.startswith(b"<?xml"):
        return "XML document"
    return None


def compression(head: bytes) -> str | None:
    """The name of the compression that `head` begins, None for none."""
    for magic, name in _COMPRESSED:
        if head.startswith(magic):
            return name
    if len(head) >= 4 and zstd_frames.is_skippable(head):
        return "zstd"
    return None
