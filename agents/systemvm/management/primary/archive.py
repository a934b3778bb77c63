# SPDX-License-Identifier: Apache-2.0
"""Finds the disk in an OVA, which QEMU reads where it is: an offset and a size, and nothing is unpacked."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from systemvm.management.primary.qemu_img import DiskSource, PrimaryStorageError, SourceFormat
from systemvm.service import tar_header
from systemvm.service.tar_header import BLOCK_BYTES, MAX_EXTENSION_BYTES, REGULAR, TarHeader

#: As in the SSVM's gate, which admits an OVA with exactly one disk (ssvm/formats/ova.py).
DISK_FORMATS: dict[str, SourceFormat] = {
    ".vmdk": "vmdk",
    ".vhd": "vpc",
    ".vhdx": "vhdx",
    ".qcow2": "qcow2",
    ".raw": "raw",
    ".img": "raw",
}
_MAX_HEADERS = 256


@frozen
class _Place:
    header: TarHeader
    offset: int  # of its data


def find_disk(path: Path) -> DiskSource:
    """Return the one disk of an archive. Blocking, for threads.

    Raises: PrimaryStorageError when it has none or several; OSError when it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        members = _members(descriptor, path.name)
    except ValueError as error:
        raise _unusable(path.name, str(error)) from None
    finally:
        os.close(descriptor)
    disks = [each for each in members if Path(each.header.name).suffix.lower() in DISK_FORMATS]
    if len(disks) != 1:
        raise _unusable(path.name, f"it has {len(disks)} disks instead of one")
    (disk,) = disks
    disk_format = DISK_FORMATS[Path(disk.header.name).suffix.lower()]
    return DiskSource(path, disk_format, disk.offset, disk.header.size_bytes)


def _members(descriptor: int, name: str) -> list[_Place]:
    members: list[_Place] = []
    extension: dict[str, str] = {}
    position, size_bytes = 0, os.fstat(descriptor).st_size
    for _ in range(_MAX_HEADERS):
        block = os.pread(descriptor, BLOCK_BYTES, position)
        if len(block) < BLOCK_BYTES:
            return members
        header = tar_header.parse(block, extension)
        if header is None:
            return members
        position += BLOCK_BYTES
        if position + header.size_bytes > size_bytes:
            raise _unusable(name, "it is truncated")
        if header.kind in tar_header.EXTENSIONS:
            if header.size_bytes > MAX_EXTENSION_BYTES:
                raise _unusable(name, "it has a header that is too long")
            tar_header.extend(extension, header.kind, os.pread(descriptor, header.size_bytes, position))
        else:
            if header.kind == REGULAR:
                members.append(_Place(header, position))
            extension = {}
        position += header.padded_bytes
    raise _unusable(name, f"it has more than {_MAX_HEADERS} members")


def _unusable(name: str, why: str) -> PrimaryStorageError:
    return PrimaryStorageError(
        f"{name} cannot be used: {why}", "its file on the store has changed: register it again"
    )
