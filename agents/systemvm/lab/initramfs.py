# SPDX-License-Identifier: Apache-2.0
"""Writes a cpio archive (newc) for the kernel, without root and reproducibly."""

from __future__ import annotations

import gzip
import stat

from attrs import frozen

_TRAILER = "TRAILER!!!"


@frozen
class Entry:
    """A file, directory, symbolic link or device."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)

    @classmethod
    def directory(cls, name: str) -> Entry:
        return cls(name, stat.S_IFDIR | 0o755)

    @classmethod
    def file(cls, name: str, data: bytes, mode: int = 0o644) -> Entry:
        return cls(name, stat.S_IFREG | mode, data)

    @classmethod
    def link(cls, name: str, target: str) -> Entry:
        return cls(name, stat.S_IFLNK | 0o777, target.encode())

    @classmethod
    def character_device(cls, name: str, major: int, minor: int) -> Entry:
        return cls(name, stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: list[Entry]) -> bytes:
    """Return the compressed archive; a directory must come before its entries."""
    out = bytearray()
    for inode, entry in enumerate([*entries, Entry(_TRAILER, 0)], start=1):
        name = entry.name.encode() + b"\0"
        fields = [
            inode if entry.name != _TRAILER else 0, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0,
            *entry.device, len(name), 0,
        ]  # fmt: skip
        out += b"070701" + b"".join(b"%08X" % value for value in fields)
        for part in (name, entry.data):
            out += part
            out += bytes(-len(out) % 4)
    return gzip.compress(bytes(out), 6, mtime=0)
