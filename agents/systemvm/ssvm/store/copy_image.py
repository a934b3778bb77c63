# SPDX-License-Identifier: Apache-2.0
"""Copies an image between two stores: read once, hashed, written where it is not zero, and resumed.

The journal is that of a download: a copy whose process, SSVM or store died continues behind its last
checkpoint, and reads nothing back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any

from attrs import frozen

from systemvm.ssvm.failure import TransferError, of_store
from systemvm.ssvm.formats.flat_qcow2 import FlatQcow2
from systemvm.ssvm.resumable.journal import Journal
from systemvm.ssvm.resumable.part_file import PartFile
from systemvm.ssvm.resumable_hash import ResumableHash
from systemvm.ssvm.store.descriptors import opened
from systemvm.ssvm.store.job_directory import kept_bytes
from systemvm.ssvm.store.openat2 import open_beneath
from systemvm.ssvm.store.snapshots import open_chain
from systemvm.ssvm.store_messages import (
    CopyProgress,
    StoreCopyResult,
    require_file_name,
    require_number,
)
from systemvm.wire import checksum as checksums
from systemvm.wire.checksum import Checksum, ChecksumAlgorithm
from systemvm.wire.snapshot_chain import StoredChain
from systemvm.wire.storage import PublishedFile
from systemvm.wire.transfer_failure import TransferFailure

#: Computed when the digest of the source is not known yet: the fastest on processors with SHA extensions.
DEFAULT_ALGORITHM = ChecksumAlgorithm.SHA_256
CHUNK_BYTES = 1 << 20
REPORT_EVERY_S = 1.0


@frozen
class _Source:
    """What is copied: an open file, or the image of a chain of them; `read(offset, count)` returns a part."""

    read: Callable[[int, int], bytes]
    descriptors: Sequence[int]
    size_bytes: int
    modified_ns: list[int]
    source_id: str  # another one begins anew

    def require_unchanged(self, copied_bytes: int) -> None:
        """Check that what was read is one file and not parts of two.

        Raises: TransferError when it has changed meanwhile.
        """
        if copied_bytes != self.size_bytes or _modified_ns(self.descriptors) != self.modified_ns:
            raise _source_error("was changed while it was copied")


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
    wanted = checksums.parse(expected) if expected else None
    algorithm = wanted.algorithm if wanted else DEFAULT_ALGORITHM
    with opened(_open_source(source_mount, source)) as descriptor:
        file = _describe(descriptor, source, algorithm)
        return _copy_into(directory, file, algorithm, wanted, report, monotonic_s)


def copy_chain(
    source_mount: int,
    chain: StoredChain,
    directory: int,
    report: Callable[[Any], None],
    monotonic_s: Callable[[], float] = time.monotonic,
) -> StoreCopyResult:
    """Write a snapshot, with all that it is an increment on, as one standalone image; see `copy_image`.

    Raises: TransferError also for a file that is damaged.
    """
    with ExitStack() as files:
        descriptors = [files.enter_context(opened(each)) for each in open_chain(source_mount, chain)]
        flat = FlatQcow2(descriptors)
        states = [os.fstat(each) for each in descriptors]
        identity = " ".join(f"{state.st_ino}-{state.st_size}-{state.st_mtime_ns}" for state in states)
        source_id = f"chain {chain.snapshot_ids[-1]} {hashlib.sha256(identity.encode()).hexdigest()}"
        source = _Source(flat.read, descriptors, flat.size_bytes, _modified_ns(descriptors), source_id)
        return _copy_into(directory, source, DEFAULT_ALGORITHM, None, report, monotonic_s)


def _copy_into(
    directory: int,
    file: _Source,
    algorithm: ChecksumAlgorithm,
    wanted: Checksum | None,
    report: Callable[[Any], None],
    monotonic_s: Callable[[], float],
) -> StoreCopyResult:
    with closing(PartFile(directory, file.source_id)) as part:
        _require_room(directory, file.size_bytes)
        was_resumed = part.journal is not None
        computed = Checksum(algorithm, _copy(file, part, algorithm, report, monotonic_s))
        if was_resumed and not _is_same(wanted, computed):
            # what was there from before can be at fault
            part.journal = None
            computed = Checksum(algorithm, _copy(file, part, algorithm, report, monotonic_s))
    if wanted is not None and not _is_same(wanted, computed):
        raise TransferError(
            TransferFailure.CHECKSUM_MISMATCH,
            f'checksum "{computed}" of the copy\'s source didn\'t match the given value, "{wanted}"',
            "the file was damaged on its store: delete the template there, or register it again",
        )
    report(CopyProgress(file.size_bytes, file.size_bytes))
    return StoreCopyResult(file.size_bytes, str(computed))


def _is_same(wanted: Checksum | None, computed: Checksum) -> bool:
    return wanted is None or hmac.compare_digest(wanted.hex, computed.hex)


def _copy(
    file: _Source,
    part: PartFile,
    algorithm: ChecksumAlgorithm,
    report: Callable[[Any], None],
    monotonic_s: Callable[[], float],
) -> str:
    """Copy what the part file does not have yet, and make it durable; return the digest of all of it."""
    digest, copied_bytes = _begin(part, algorithm.hashlib_name)
    reported_s = monotonic_s()
    report(CopyProgress(copied_bytes, file.size_bytes))
    with closing(part.checkpoints()) as checkpoints, closing(part.writer(copied_bytes)) as writer:
        checkpoints.begin_at(copied_bytes, copied_bytes)
        while chunk := file.read(copied_bytes, CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
            copied_bytes += len(chunk)
            if checkpoints.is_due(copied_bytes, writer.size_bytes):
                writer.flush()
                checkpoints.take(copied_bytes, writer.size_bytes, _journal(file, digest, copied_bytes))
            if monotonic_s() - reported_s >= REPORT_EVERY_S:
                reported_s = monotonic_s()
                report(CopyProgress(copied_bytes, file.size_bytes))
        checkpoints.wait()
        writer.finish()
    file.require_unchanged(copied_bytes)
    return digest.hexdigest()


def _begin(part: PartFile, algorithm: str) -> tuple[ResumableHash, int]:
    """Return the digest of what the part file has, and its size."""
    if part.journal is not None:
        with suppress(ValueError):  # the digest was saved by another library
            return part.restore_hash(part.journal, algorithm), part.journal.hashed_bytes
    part.begin_anew()
    return ResumableHash(algorithm), 0


def _journal(file: _Source, digest: ResumableHash, copied_bytes: int) -> Journal | None:
    if copied_bytes > file.size_bytes:
        return None  # it grows: the copy fails at its end
    return Journal(
        source_id=file.source_id,
        validator=None,
        total_bytes=file.size_bytes,
        encoding=None,
        hashed_bytes=copied_bytes,
        hash_state=digest.save(),
        decoder=None,
        decoded_bytes=copied_bytes,
        file_bytes=copied_bytes,
        inspector=None,
    )


def _describe(descriptor: int, source: PublishedFile, algorithm: ChecksumAlgorithm) -> _Source:
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise _source_error("is not a regular file")
    place = f"{source.account_id}/{source.template_id}/{source.name}"
    identity = f"copy {place} {state.st_ino} {state.st_size} {state.st_mtime_ns} {algorithm.value}"
    return _Source(
        lambda offset, count: os.pread(descriptor, count, offset),
        [descriptor],
        state.st_size,
        [state.st_mtime_ns],
        identity,
    )


def _modified_ns(descriptors: Sequence[int]) -> list[int]:
    return [os.fstat(each).st_mtime_ns for each in descriptors]


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
    """Check that the file fits, before its next byte is written."""
    state = os.fstatvfs(directory)
    free_bytes = state.f_bavail * state.f_frsize + kept_bytes(directory)
    if free_bytes < size_bytes:
        raise TransferError(
            TransferFailure.STORE_FULL,
            f"secondary storage has no room for the copy: {size_bytes} bytes, {free_bytes} are free",
            "free space on the store or add another one",
        )


def _source_error(what: str) -> TransferError:
    return TransferError(TransferFailure.SOURCE_CHANGED, f"source of the copy {what}", "copy it again")
