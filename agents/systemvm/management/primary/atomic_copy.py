# SPDX-License-Identifier: Apache-2.0
"""Copies of files that are whole or not there: temporary name, fsync, read-only, rename. For threads."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def copy(source: Path, target: Path) -> str:
    """Copy into the target's directory, mode 0444; the sha256 of what was copied."""
    digest = hashlib.sha256()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with source.open("rb") as reader, temporary.open("xb") as writer:
            while chunk := reader.read(_CHUNK_BYTES):
                digest.update(chunk)
                _write_sparse(writer.fileno(), chunk)
            writer.truncate(os.lseek(writer.fileno(), 0, os.SEEK_CUR))
            os.fchmod(writer.fileno(), 0o444)
            os.fsync(writer.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(target.parent)
    return digest.hexdigest()


def sync_directory(directory: Path) -> None:
    """A rename is on the disk when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path) -> None:
    """What a killed daemon was copying."""
    for path in directory.glob(".*.new"):
        path.unlink(missing_ok=True)


def _write_sparse(descriptor: int, chunk: bytes) -> None:
    """Holes for zeros, which raw disks are full of."""
    if chunk.count(0) == len(chunk):
        os.lseek(descriptor, len(chunk), os.SEEK_CUR)
        return
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
