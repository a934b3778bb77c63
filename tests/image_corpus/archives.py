# SPDX-License-Identifier: Apache-2.0
"""OVAs and TARs, from members that need not be files."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence

Member = tuple[str, bytes] | tarfile.TarInfo
_ENVELOPE = "http://schemas.dmtf.org/ovf/envelope/1"


def descriptor(
    disks: str | None = None,
    files: str | None = None,
    *,
    href: str = "disk.vmdk",
    capacity: str = "8388608",
    units: str = "byte",
    file_more: str = "",
    disk_more: str = "",
    prologue: str = "",
    root: str = "Envelope",
) -> bytes:
    if files is None:
        files = f'<File ovf:href="{href}" ovf:id="file1" {file_more}/>'
    if disks is None:
        disks = (
            f'<Disk ovf:capacity="{capacity}" ovf:capacityAllocationUnits="{units}" ovf:diskId="vmdisk1"'
            f' ovf:fileRef="file1" ovf:format="{_ENVELOPE}#streamOptimized" {disk_more}/>'
        )
    return (
        f'<?xml version="1.0"?>\n{prologue}<{root} xmlns="{_ENVELOPE}" xmlns:ovf="{_ENVELOPE}">'
        f"<References>{files}</References><DiskSection><Info>Disks</Info>{disks}</DiskSection>"
        f'<VirtualSystem ovf:id="vm"><Info>A machine</Info><Name>vm</Name></VirtualSystem></{root}>'
    ).encode()


def manifest(members: Sequence[tuple[str, bytes]], algorithm: str = "SHA256", blank: str = "") -> bytes:
    lines = [
        f"{algorithm}{blank}({name})= {hashlib.new(algorithm.lower(), data).hexdigest()}\n"
        for name, data in members
    ]
    return "".join(lines).encode()


def archive(members: Sequence[Member], tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            info.mtime = 1.5 if tar_format == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(member[1]))
    return file.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def with_pax(name: str, data: bytes, headers: dict[str, str]) -> bytes:
    """A member with extended headers, without the end of an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.pax_headers = headers
    return info.tobuf(tarfile.PAX_FORMAT) + data.ljust(-(-len(data) // 512) * 512, b"\0")
