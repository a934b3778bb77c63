# SPDX-License-Identifier: Apache-2.0
"""A mover that dies at any byte: the next one continues, and the image is that of one pass."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from systemvm.ssvm import resumable_hash
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover.pipeline import BUFFER_BYTES, BUFFERS, Pipeline
from systemvm.ssvm.mover_messages import IMAGE_NAME, JOURNAL_NAME, MoverJob, MoverResult
from systemvm.ssvm.resumable import checkpoints
from systemvm.ssvm.resumable.part_file import PartFile
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure
from unit.ssvm.mover.dying_source import Died, Source

KIB, MIB = 1 << 10, 1 << 20
EVERY_BYTES = 256 * KIB
JOB = MoverJob(
    "job-1", "images.example.test", "images.example.test", "/a", False, ImageFormat.RAW, 1 << 30,
    source_id="a",
)  # fmt: skip


def attempt(directory: Path, job: MoverJob, body: bytes, dies_at: int | None, **more: Any) -> Any:
    """Run one mover; return its result, or from which byte it began if it died."""
    descriptor = os.open(directory, os.O_RDONLY)
    part = PartFile(descriptor, job.source_id)
    try:
        start = 0 if part.journal is None else part.journal.decoded_bytes
        if part.journal is None:
            part.begin_anew()
        source = Source(body, start, dies_at, **more)
        try:
            return start, Pipeline(source, part, job).run()
        except Died:
            return start, None
    finally:
        part.close()
        os.close(descriptor)


@pytest.fixture(autouse=True)
def _frequent_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "RECEIVED_BYTES", EVERY_BYTES)
    monkeypatch.setattr(checkpoints, "WRITTEN_BYTES", 4 * EVERY_BYTES)


RAW = b"".join(
    bytes(64 * KIB) if index % 5 == 2 else os.urandom(32 * KIB) * 2 for index in range(64)
) + b"end".ljust(512, b"\1")  # fmt: skip
PARTS = [RAW[start : start + 300_000] for start in range(0, len(RAW), 300_000)]
BODIES = {
    "raw": RAW,
    "gzip members": b"".join(gzip.compress(part, 1) for part in PARTS),
    "one gzip member": gzip.compress(RAW, 1),
    "zstd frames": b"".join(zstandard.compress(part, 1) for part in PARTS),
    "bzip2 streams": b"".join(bz2.compress(part, 1) for part in PARTS),
    "xz streams": b"".join(lzma.compress(part, preset=0) for part in PARTS),
}
#: After a death: two checkpoints, what lies in the buffers, and the rest of a member.
MOST_AGAIN = 2 * EVERY_BYTES + BUFFER_BYTES * (BUFFERS + 1) + 300_000


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(BODIES)), st.lists(st.floats(0, 1), max_size=4), st.sampled_from(["md5", "sha256"])
)
def test_a_transfer_that_died_continues_to_the_same_image(
    kind: str, deaths: list[float], algorithm: str
) -> None:
    body = BODIES[kind]
    digest = hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()
    job = evolve(JOB, checksum=digest)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        died_at, start = 0, 0
        for death in sorted(deaths):
            start, _ = attempt(directory, job, body, max(start, int(death * len(body))))
            if kind != "one gzip member":
                assert died_at - start <= MOST_AGAIN
            died_at = int(death * len(body))
        _, result = attempt(directory, job, body, None)
        assert isinstance(result, MoverResult)
        assert (directory / IMAGE_NAME).read_bytes() == RAW
        assert result.checksum.endswith("}" + digest)
        assert (result.received_bytes, result.size_bytes) == (len(body), len(RAW))


def test_a_raw_image_is_fetched_again_by_two_checkpoints_at_most(tmp_path: Path) -> None:
    body = os.urandom(8 * MIB)
    attempt(tmp_path, JOB, body, 7 * MIB)
    start, result = attempt(tmp_path, JOB, body, None)
    assert 0 <= 7 * MIB - start <= MOST_AGAIN
    assert result is not None
    assert (tmp_path / IMAGE_NAME).read_bytes() == body


def test_another_source_begins_anew(tmp_path: Path) -> None:
    attempt(tmp_path, JOB, RAW, 3 * MIB)
    assert (tmp_path / JOURNAL_NAME).exists()
    other = bytes(reversed(RAW[: 2 * MIB]))
    start, result = attempt(tmp_path, evolve(JOB, source_id="b"), other, None)
    assert (start, result.size_bytes) == (0, 2 * MIB)
    assert (tmp_path / IMAGE_NAME).read_bytes() == other
    assert attempt(tmp_path, JOB, RAW, None)[0] == 0, "the journal is the other source's"


def test_without_anything_that_identifies_the_rest_there_is_no_journal(tmp_path: Path) -> None:
    attempt(tmp_path, JOB, RAW, 3 * MIB, validator=None)
    assert not (tmp_path / JOURNAL_NAME).exists()


@pytest.mark.parametrize("what", ["shorter", "gone", "another name", "a link"])
def test_a_part_file_that_is_not_what_the_journal_says_begins_anew(tmp_path: Path, what: str) -> None:
    attempt(tmp_path, JOB, RAW, 3 * MIB)
    image = tmp_path / IMAGE_NAME
    if what == "shorter":
        os.truncate(image, 1000)
    elif what == "another name":
        os.link(image, tmp_path / "other")
    else:
        image.unlink()
        if what == "a link":
            (tmp_path / "target").mkdir()
            image.symlink_to(tmp_path / "target")
    if what == "a link":
        with pytest.raises(TransferError) as failed:
            attempt(tmp_path, JOB, RAW, None)
        assert failed.value.code is TransferFailure.STORE_FAILED
        return
    start, _ = attempt(tmp_path, JOB, RAW, None)
    assert start == 0
    assert image.read_bytes() == RAW


def test_a_digest_that_cannot_be_saved_is_made_of_the_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable_hash, "_functions", lambda name: None)
    job = evolve(JOB, checksum=hashlib.sha256(RAW).hexdigest())
    attempt(tmp_path, job, RAW, 3 * MIB)
    start, result = attempt(tmp_path, job, RAW, None)
    assert start > 0
    assert result.size_bytes == len(RAW)
    assert (tmp_path / IMAGE_NAME).read_bytes() == RAW


def test_a_resumed_file_with_the_wrong_checksum_is_fetched_anew(tmp_path: Path) -> None:
    """The journal and not the source can be at fault: a date or a length is a poor validator."""
    job = evolve(JOB, checksum="0" * 64)
    attempt(tmp_path, job, RAW, 3 * MIB)
    with pytest.raises(TransferError) as failed:
        attempt(tmp_path, job, RAW, None)
    assert failed.value.code is TransferFailure.SOURCE_CHANGED


def test_bytes_behind_the_journal_do_not_shine_through_holes(tmp_path: Path) -> None:
    """What a dead mover wrote behind its last checkpoint must not stay where the image has zeros."""
    attempt(tmp_path, JOB, RAW, 3 * MIB)
    with (tmp_path / IMAGE_NAME).open("r+b") as image:
        image.seek(0, os.SEEK_END)
        image.write(b"\xff" * len(RAW))
    attempt(tmp_path, JOB, RAW, None)
    assert (tmp_path / IMAGE_NAME).read_bytes() == RAW


# ---- a disk in an archive: the layer of a containerDisk ----------------------------------------------------


def layer(disk: bytes) -> bytes:
    """Return a layer as KubeVirt's tools make one, with files before and behind the disk."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in (("etc/x", b"x" * 700_000), ("disk/d.img", disk), ("usr/y", b"y" * 900_000)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


LAYER = layer(RAW)
LAYERS = {
    "plain": LAYER,
    "gzip members": b"".join(
        gzip.compress(LAYER[start : start + 300_000], 1) for start in range(0, len(LAYER), 300_000)
    ),
    "zstd frames": b"".join(
        zstandard.compress(LAYER[start : start + 300_000], 1) for start in range(0, len(LAYER), 300_000)
    ),
}


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_disk_in_a_layer_continues_where_it_was_in_the_archive(tmp_path: Path, kind: str) -> None:
    body = LAYERS[kind]
    job = evolve(JOB, checksum=hashlib.sha256(body).hexdigest(), member_directory="disk/")
    died_at = 0
    for tenth in (2, 5, 8, 9):
        start, _ = attempt(tmp_path, job, body, max(tenth * len(body) // 10, died_at))
        assert died_at - start <= MOST_AGAIN
        died_at = tenth * len(body) // 10
    start, result = attempt(tmp_path, job, body, None)
    assert 0 < died_at - start <= MOST_AGAIN
    assert (tmp_path / IMAGE_NAME).read_bytes() == RAW
    assert (result.received_bytes, result.size_bytes) == (len(body), len(RAW))


def test_the_journal_of_a_layer_is_not_used_for_a_file(tmp_path: Path) -> None:
    attempt(tmp_path, evolve(JOB, member_directory="disk/"), LAYER, 2 * MIB)
    with pytest.raises(TransferError) as failed:
        attempt(tmp_path, JOB, LAYER, None)
    assert failed.value.code is TransferFailure.SOURCE_CHANGED


def test_without_a_saved_digest_a_layer_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive is not on the store, so its digest cannot be made again."""
    monkeypatch.setattr(resumable_hash, "_functions", lambda name: None)
    job = evolve(JOB, checksum=hashlib.sha256(LAYER).hexdigest(), member_directory="disk/")
    attempt(tmp_path, job, LAYER, 2 * MIB)
    start, _ = attempt(tmp_path, job, LAYER, None)
    assert start == 0
    assert (tmp_path / IMAGE_NAME).read_bytes() == RAW
