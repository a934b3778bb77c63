# SPDX-License-Identifier: Apache-2.0
"""Atomic copies of files: temporary name, fsync, read-only, rename. Blocking, for threads."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def copy(source: Path, target: Path, check: Callable[[], object] = lambda: None) -> str:
    """Copy a file with mode 0444 and return its sha256; `check` raises when that is to end."""
    digest = hashlib.sha256()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with source.open("rb") as reader, temporary.open("xb") as writer:
            while chunk := reader.read(_CHUNK_BYTES):
                check()
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


def publish(temporary: Path, target: Path, mode: int = 0o444) -> None:
    """Make a complete file durable, read-only by default, and give it its name."""
    descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(target)
    sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Write a directory to the disk, which completes a rename in it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path, age_s: float = 0.0) -> None:
    """Remove the incomplete copies of a killed daemon, which have not changed for `age_s`."""
    for path in directory.glob(".*.new"):
        with suppress(FileNotFoundError):
            if not age_s or path.stat().st_mtime < time.time() - age_s:
                path.unlink()


def _write_sparse(descriptor: int, chunk: bytes) -> None:
    """Write a chunk, as a hole if it contains only zeros, as most of a raw disk does."""
    if chunk.count(0) == len(chunk):
        os.lseek(descriptor, len(chunk), os.SEEK_CUR)
        return
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
