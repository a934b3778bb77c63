# SPDX-License-Identifier: Apache-2.0
"""Copies between two stores: every byte, no more room than needed, and nothing that differs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from systemvm.ssvm import resumable_hash
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover_messages import IMAGE_NAME, JOURNAL_NAME
from systemvm.ssvm.resumable import checkpoints
from systemvm.ssvm.resumable.sparse import BLOCK_BYTES as HOLE_BYTES
from systemvm.ssvm.store.copy_image import CHUNK_BYTES, copy_image
from systemvm.ssvm.store_messages import CopyProgress, StoreCopyResult
from systemvm.wire.storage import PublishedFile
from systemvm.wire.transfer_failure import TransferFailure

SOURCE = PublishedFile(2, 204, "Ünïcode name.qcow2")


class Stores:
    """A source with one template, and the directory of a job."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "source/template/tmpl/2/204" / SOURCE.name
        self.file.parent.mkdir(parents=True)
        self.job = directory / "job"
        self.job.mkdir()
        self.source = directory / "source"
        self.seen: list[CopyProgress] = []

    def copy(
        self,
        expected: str | None = None,
        source: PublishedFile = SOURCE,
        report: Callable[[Any], None] | None = None,
    ) -> StoreCopyResult:
        ticks = count()
        mount, job = os.open(self.source, os.O_RDONLY), os.open(self.job, os.O_RDONLY)
        try:
            return copy_image(
                mount, source, job, expected, report or self.seen.append, lambda: float(next(ticks))
            )
        finally:
            os.close(mount)
            os.close(job)


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    return Stores(tmp_path)


def sha256(data: bytes) -> str:
    return f"{{SHA-256}}{hashlib.sha256(data).hexdigest()}"


def test_the_bytes_are_copied_hashed_and_reported(stores: Stores) -> None:
    data = os.urandom(3 * CHUNK_BYTES + 4711)
    stores.file.write_bytes(data)
    result = stores.copy()
    assert (stores.job / "image").read_bytes() == data
    assert result == StoreCopyResult(len(data), sha256(data))
    done = [each.copied_bytes for each in stores.seen]
    assert done[0] == 0
    assert done[-1] == len(data)
    assert done == sorted(done)
    assert {each.total_bytes for each in stores.seen} == {len(data)}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(5 * HOLE_BYTES),
        b"x" + bytes(4 * HOLE_BYTES),
        bytes(4 * HOLE_BYTES) + b"x",
        bytes(HOLE_BYTES) + os.urandom(HOLE_BYTES) + bytes(HOLE_BYTES + 7),
        bytes(CHUNK_BYTES) + os.urandom(10) + bytes(CHUNK_BYTES),
    ],
    ids=["empty", "zeros", "zeros at the end", "zeros at the begin", "data between", "over chunks"],
)
def test_zeros_become_holes_and_read_back_as_zeros(stores: Stores, data: bytes) -> None:
    stores.file.write_bytes(data)
    assert stores.copy().checksum == sha256(data)
    image = stores.job / "image"
    assert image.read_bytes() == data
    assert image.stat().st_blocks * 512 <= 2 * HOLE_BYTES + len(data.strip(b"\0"))


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-1", "SHA-256", "SHA-512"])
def test_the_known_digest_is_verified_by_its_own_algorithm(stores: Stores, algorithm: str) -> None:
    data = os.urandom(100_000)
    stores.file.write_bytes(data)
    digest = hashlib.new(algorithm.replace("-", ""), data).hexdigest()
    assert stores.copy(f"{{{algorithm}}}{digest}").checksum == f"{{{algorithm}}}{digest}"


def test_a_file_that_was_damaged_on_its_store_is_not_copied(stores: Stores) -> None:
    stores.file.write_bytes(b"damaged")
    with pytest.raises(TransferError) as refused:
        stores.copy(sha256(b"whole"))
    assert refused.value.code is TransferFailure.CHECKSUM_MISMATCH


def test_a_file_that_changes_meanwhile_is_not_copied(stores: Stores) -> None:
    stores.file.write_bytes(os.urandom(2 * CHUNK_BYTES))

    def change(progress: CopyProgress) -> None:
        if progress.copied_bytes == 0:
            os.utime(stores.file, (1, 1))

    with pytest.raises(TransferError) as refused:
        stores.copy(report=change)
    assert refused.value.code is TransferFailure.SOURCE_CHANGED


def test_what_does_not_fit_is_refused_before_its_first_byte(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.file.write_bytes(bytes(4096))

    class Full:
        f_bavail, f_frsize = 1, 512

    monkeypatch.setattr(os, "fstatvfs", lambda directory: Full)
    with pytest.raises(TransferError) as refused:
        stores.copy()
    assert refused.value.code is TransferFailure.STORE_FULL
    assert list(stores.job.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../204/x", "a/b", "x" * 256, "a\0b"])
def test_a_name_that_is_a_path_is_refused(stores: Stores, name: str) -> None:
    stores.file.write_bytes(b"x")
    with pytest.raises(TransferError) as refused:
        stores.copy(source=PublishedFile(2, 204, name))
    assert refused.value.code is TransferFailure.REQUEST_INVALID


def test_a_link_is_not_followed_and_a_missing_file_is_named(stores: Stores) -> None:
    stores.file.symlink_to("/etc/passwd")
    with pytest.raises(TransferError) as refused:
        stores.copy()
    assert refused.value.code is TransferFailure.STORE_FAILED
    with pytest.raises(TransferError) as missing:
        stores.copy(source=PublishedFile(2, 205, "x"))
    assert missing.value.code is TransferFailure.SOURCE_MISSING


# ---- a copy that dies --------------------------------------------------------------------------------------

#: After a death: the checkpoint that was being made, the one behind it, and what was read.
MOST_AGAIN = 2 * CHUNK_BYTES + CHUNK_BYTES


class Killed(BaseException):
    """The helper's child is killed."""


@pytest.fixture
def _frequent_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "RECEIVED_BYTES", CHUNK_BYTES)


def killed_at(stores: Stores, copied_bytes: int, expected: str | None = None) -> int:
    """Copy until this byte; return at which byte it began."""
    stores.seen.clear()

    def die(progress: CopyProgress) -> None:
        stores.seen.append(progress)
        if progress.copied_bytes >= copied_bytes:
            raise Killed

    with pytest.raises(Killed):
        stores.copy(expected, report=die)
    return stores.seen[0].copied_bytes


@pytest.mark.usefixtures("_frequent_checkpoints")
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-1", "SHA-256", "SHA-512"])
def test_a_copy_that_was_killed_continues_behind_its_last_checkpoint(stores: Stores, algorithm: str) -> None:
    data = os.urandom(4 * CHUNK_BYTES) + bytes(2 * CHUNK_BYTES) + os.urandom(3 * CHUNK_BYTES + 7)
    stores.file.write_bytes(data)
    expected = f"{{{algorithm}}}{hashlib.new(algorithm.replace('-', ''), data).hexdigest()}"
    copied = 0
    for died_at in (3 * CHUNK_BYTES, 6 * CHUNK_BYTES, 9 * CHUNK_BYTES):
        assert copied - killed_at(stores, died_at, expected) <= MOST_AGAIN
        copied = died_at
    stores.seen.clear()
    assert stores.copy(expected).checksum == expected
    assert copied - stores.seen[0].copied_bytes <= MOST_AGAIN
    assert stores.seen[0].copied_bytes > 0
    assert (stores.job / IMAGE_NAME).read_bytes() == data


@pytest.mark.usefixtures("_frequent_checkpoints")
def test_nothing_that_was_copied_is_read_back(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(6 * CHUNK_BYTES)
    stores.file.write_bytes(data)
    killed_at(stores, 5 * CHUNK_BYTES)
    source = stores.file.stat().st_ino
    pread, reread = os.pread, []

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        assert os.fstat(descriptor).st_ino == source
        got = pread(descriptor, size, offset)
        reread.append(len(got))
        return got

    monkeypatch.setattr(os, "pread", counted)
    assert stores.copy().checksum == sha256(data)
    assert sum(reread) <= CHUNK_BYTES + MOST_AGAIN


@pytest.mark.usefixtures("_frequent_checkpoints")
@pytest.mark.parametrize("what", ["another time", "another size", "another file", "another digest"])
def test_a_copy_of_another_source_begins_anew(stores: Stores, what: str) -> None:
    data = os.urandom(4 * CHUNK_BYTES)
    stores.file.write_bytes(data)
    killed_at(stores, 3 * CHUNK_BYTES)
    assert (stores.job / JOURNAL_NAME).exists()
    state, expected = stores.file.stat(), None
    if what == "another digest":
        expected = f"{{MD5}}{hashlib.md5(data).hexdigest()}"
    else:
        data = os.urandom(5 * CHUNK_BYTES if what == "another size" else 4 * CHUNK_BYTES)
        if what == "another file":
            stores.file.rename(stores.file.with_name("old"))
        stores.file.write_bytes(data)
        if what != "another time":
            os.utime(stores.file, ns=(state.st_atime_ns, state.st_mtime_ns))
    stores.seen.clear()
    stores.copy(expected)
    assert stores.seen[0].copied_bytes == 0
    assert (stores.job / IMAGE_NAME).read_bytes() == data


@pytest.mark.usefixtures("_frequent_checkpoints")
def test_a_journal_without_its_part_file_is_worth_nothing(stores: Stores) -> None:
    data = os.urandom(4 * CHUNK_BYTES)
    stores.file.write_bytes(data)
    killed_at(stores, 3 * CHUNK_BYTES, sha256(data))
    (stores.job / IMAGE_NAME).unlink()
    stores.seen.clear()
    assert stores.copy(sha256(data)).checksum == sha256(data)
    assert stores.seen[0].copied_bytes == 0


@pytest.mark.usefixtures("_frequent_checkpoints")
def test_a_resumed_copy_with_another_digest_is_copied_from_its_first_byte(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system whose clock is coarse: the source was replaced, and has the same time and size."""
    stores.file.write_bytes(os.urandom(4 * CHUNK_BYTES))
    state = stores.file.stat()
    data = os.urandom(4 * CHUNK_BYTES)
    killed_at(stores, 3 * CHUNK_BYTES, sha256(data))
    with stores.file.open("r+b") as file:
        file.write(data)
    os.utime(stores.file, ns=(state.st_atime_ns, state.st_mtime_ns))
    stores.seen.clear()
    assert stores.copy(sha256(data)).checksum == sha256(data)
    assert stores.seen[0].copied_bytes > 0, "it was resumed"
    assert (stores.job / IMAGE_NAME).read_bytes() == data


@pytest.mark.usefixtures("_frequent_checkpoints")
def test_a_digest_that_cannot_be_saved_is_made_of_the_part_file(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable_hash, "_functions", lambda name: None)
    data = os.urandom(4 * CHUNK_BYTES)
    stores.file.write_bytes(data)
    killed_at(stores, 3 * CHUNK_BYTES)
    stores.seen.clear()
    assert stores.copy().checksum == sha256(data)
    assert stores.seen[0].copied_bytes > 0


@pytest.mark.usefixtures("_frequent_checkpoints")
def test_the_room_that_a_part_has_is_not_asked_for_twice(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(4 * CHUNK_BYTES)
    stores.file.write_bytes(data)
    killed_at(stores, 3 * CHUNK_BYTES)

    class Tight:
        f_bavail, f_frsize = 2 * CHUNK_BYTES // 512, 512

    monkeypatch.setattr(os, "fstatvfs", lambda directory: Tight)
    assert stores.copy().checksum == sha256(data)
