# SPDX-License-Identifier: Apache-2.0
"""Copies an image between two stores in one pass: read once, hashed, and written where it is not zero."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import time
from collections.abc import Callable
from typing import Any

from systemvm.ssvm.failure import TransferError, of_store
from systemvm.ssvm.mover_messages import IMAGE_NAME
from systemvm.ssvm.store.descriptors import opened
from systemvm.ssvm.store.openat2 import open_beneath
from systemvm.ssvm.store_messages import (
    CopyProgress,
    StoreCopyResult,
    require_file_name,
    require_number,
)
from systemvm.wire import checksum as checksums
from systemvm.wire.checksum import Checksum, ChecksumAlgorithm
from systemvm.wire.storage import PublishedFile
from systemvm.wire.transfer_failure import TransferFailure

#: Computed when the digest of the source is not known yet: the fastest on processors with SHA extensions.
DEFAULT_ALGORITHM = ChecksumAlgorithm.SHA_256
CHUNK_BYTES = 1 << 20
HOLE_BYTES = 64 << 10  # the unit in which zeros become a hole
SYNC_BYTES = 256 << 20  # written data that is not yet durable is at most this much
REPORT_EVERY_S = 1.0
_ZEROS = bytes(HOLE_BYTES)


def copy_image(
    source_mount: int,
    source: PublishedFile,
    directory: int,
    expected: str | None,
    report: Callable[[Any], None],
    monotonic_s: Callable[[], float] = time.monotonic,
) -> StoreCopyResult:
    """Write the file to `directory` under the name of a job's image, durably; compare it with `expected`.

    Raises: TransferError for a file that is missing, changes meanwhile, does not fit, or has another digest.
    """
    with opened(_open_source(source_mount, source)) as file:
        before = os.fstat(file)
        if not stat.S_ISREG(before.st_mode):
            raise _source_error("is not a regular file")
        total_bytes = before.st_size
        _require_room(directory, total_bytes)
        wanted = checksums.parse(expected) if expected else None
        algorithm = wanted.algorithm if wanted else DEFAULT_ALGORITHM
        digest = hashlib.new(algorithm.hashlib_name, usedforsecurity=False)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with opened(open_beneath(directory, IMAGE_NAME, flags, 0o600)) as image:
            copied_bytes, synced_bytes, reported_s = 0, 0, monotonic_s()
            report(CopyProgress(0, total_bytes))
            while chunk := os.read(file, CHUNK_BYTES):
                digest.update(chunk)
                _write_sparse(image, chunk, copied_bytes)
                copied_bytes += len(chunk)
                if copied_bytes - synced_bytes >= SYNC_BYTES:
                    os.fdatasync(image)
                    synced_bytes = copied_bytes
                if monotonic_s() - reported_s >= REPORT_EVERY_S:
                    reported_s = monotonic_s()
                    report(CopyProgress(copied_bytes, total_bytes))
            os.ftruncate(image, copied_bytes)
            os.fsync(image)
        after = os.fstat(file)
        if copied_bytes != total_bytes or after.st_mtime_ns != before.st_mtime_ns:
            raise _source_error("was changed while it was copied")
    computed = Checksum(algorithm, digest.hexdigest())
    if wanted is not None and not hmac.compare_digest(wanted.hex, computed.hex):
        raise TransferError(
            TransferFailure.CHECKSUM_MISMATCH,
            f'checksum "{computed}" of the copy\'s source didn\'t match the given value, "{wanted}"',
            "the file was damaged on its store: delete the template there, or register it again",
        )
    report(CopyProgress(copied_bytes, total_bytes))
    return StoreCopyResult(copied_bytes, str(computed))


def _open_source(mount: int, source: PublishedFile) -> int:
    account, template = (require_number(n) for n in (source.account_id, source.template_id))
    path = f"template/tmpl/{account}/{template}/{require_file_name(source.name)}"
    try:
        return open_beneath(mount, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise TransferError(
            TransferFailure.SOURCE_MISSING, f"{path} is not on the store that it is to be copied from"
        ) from None
    except OSError as error:
        raise of_store(error, f"opening {path}") from None


def _require_room(directory: int, size_bytes: int) -> None:
    """Check that the file fits, before its first byte is written."""
    state = os.fstatvfs(directory)
    free_bytes = state.f_bavail * state.f_frsize
    if free_bytes < size_bytes:
        raise TransferError(
            TransferFailure.STORE_FULL,
            f"secondary storage has no room for the copy: {size_bytes} bytes, {free_bytes} are free",
            "free space on the store or add another one",
        )


def _write_sparse(image: int, chunk: bytes, offset: int) -> None:
    """Write the parts of a chunk that are not zeros; the file's size is set at the end."""
    view = memoryview(chunk)
    begin: int | None = None
    for place in range(0, len(chunk), HOLE_BYTES):
        part = view[place : place + HOLE_BYTES]
        if part == _ZEROS[: len(part)]:
            if begin is not None:
                _write_all(image, view[begin:place], offset + begin)
                begin = None
        elif begin is None:
            begin = place
    if begin is not None:
        _write_all(image, view[begin:], offset + begin)


def _write_all(image: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(image, data, offset)
        data, offset = data[written:], offset + written


def _source_error(what: str) -> TransferError:
    return TransferError(TransferFailure.SOURCE_CHANGED, f"source of the copy {what}", "copy it again")
