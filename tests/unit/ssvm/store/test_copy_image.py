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

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.store.copy_image import CHUNK_BYTES, HOLE_BYTES, copy_image
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
