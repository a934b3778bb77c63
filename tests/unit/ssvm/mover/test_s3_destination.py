# SPDX-License-Identifier: Apache-2.0
"""A mover that dies on its way to a bucket: the next one continues behind the stored parts."""

from __future__ import annotations

import gzip
import hashlib
import os
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_bucket import KEY, FakeBucket
from systemvm.ssvm.mover import s3_destination
from systemvm.ssvm.mover.pipeline import BUFFER_BYTES, BUFFERS, Pipeline
from systemvm.ssvm.mover.s3_destination import S3Destination
from systemvm.ssvm.mover_messages import MoverJob, MoverResult
from systemvm.ssvm.s3 import object_keys
from systemvm.wire.storage import ImageFormat
from unit.ssvm.mover.dying_source import Died, Source

KIB = 1 << 10
PART_BYTES, SLACK_BYTES = 1024 * KIB, 256 * KIB
JOB = MoverJob(
    "job-1", "images.example.test", "images.example.test", "/a", False, ImageFormat.RAW, 1 << 30,
    source_id="a",
)  # fmt: skip
RAW = b"".join(bytes(64 * KIB) if index % 5 == 2 else os.urandom(64 * KIB) for index in range(64)) + b"end"
PIECES = [RAW[start : start + 300_000] for start in range(0, len(RAW), 300_000)]
BODIES = {
    "raw": RAW.ljust(len(RAW) + 509, b"\1"),
    "gzip members": b"".join(gzip.compress(part, 1) for part in [*PIECES, b"\1" * 509]),
}
IMAGE = BODIES["raw"]
JOURNAL = object_keys.journal_key("s-1-VM", "job-1", KEY)
#: A part, what lies in the buffers, and the rest of a member.
MOST_AGAIN = PART_BYTES + BUFFER_BYTES * (BUFFERS + 1) + 300_000


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_destination, "MIN_PART_BYTES", 256 * KIB)
    monkeypatch.setattr(s3_destination, "SLACK_BYTES", SLACK_BYTES)
    monkeypatch.setattr(s3_destination, "RECEIVED_BYTES", PART_BYTES)


def attempt(bucket: FakeBucket, job: MoverJob, body: bytes, dies_at: int | None) -> Any:
    """Run one mover; return from which byte it began, and its result unless it died."""
    destination = S3Destination(bucket, KEY, JOURNAL, job.source_id, PART_BYTES)
    start = 0 if destination.journal is None else destination.journal.decoded_bytes
    if destination.journal is None:
        destination.begin_anew()
    try:
        result = Pipeline(Source(body, start, dies_at), destination, job).run()
    except Died:
        return start, None
    destination.complete(result)
    return start, result


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(BODIES)), st.lists(st.floats(0, 1), max_size=4), st.booleans())
def test_a_transfer_that_died_continues_to_the_same_object(
    kind: str, deaths: list[float], is_encrypted: bool
) -> None:
    body = BODIES[kind]
    digest = hashlib.sha256(body).hexdigest()
    bucket, job = FakeBucket(is_encrypted=is_encrypted), evolve(JOB, checksum=digest)
    died_at, start = 0, 0
    for death in sorted(deaths):
        start, _ = attempt(bucket, job, body, max(start, int(death * len(body))))
        assert died_at - start <= MOST_AGAIN
        died_at = int(death * len(body))
    _, result = attempt(bucket, job, body, None)
    assert isinstance(result, MoverResult)
    assert bucket.content == IMAGE
    assert bucket.uploads == {}
    assert result.checksum.endswith("}" + digest)
    assert (result.received_bytes, result.size_bytes) == (len(body), len(IMAGE))


def test_another_source_begins_anew() -> None:
    bucket = FakeBucket()
    attempt(bucket, JOB, IMAGE, 3 * PART_BYTES)
    assert bucket.objects[JOURNAL]
    other = bytes(reversed(IMAGE[: 2 * PART_BYTES]))
    assert attempt(bucket, evolve(JOB, source_id="b"), other, None)[0] == 0
    assert bucket.content == other


@pytest.mark.parametrize("what", ["part replaced", "part lost", "upload ended", "journal damaged"])
def test_a_journal_of_other_parts_continues_nothing(what: str) -> None:
    bucket = FakeBucket()
    attempt(bucket, JOB, IMAGE, 3 * PART_BYTES)
    (upload,) = bucket.uploads.values()
    match what:
        case "part replaced":
            upload[1] = bytes(len(upload[1]))
        case "part lost":
            del upload[1]
        case "upload ended":
            bucket.uploads.clear()
        case _:
            bucket.objects[JOURNAL] = bucket.objects[JOURNAL][:-1]
    assert attempt(bucket, JOB, IMAGE, None)[0] == 0
    assert bucket.content == IMAGE


def test_a_discarded_job_leaves_nothing() -> None:
    bucket = FakeBucket()
    attempt(bucket, JOB, IMAGE, 3 * PART_BYTES)
    S3Destination(bucket, KEY, JOURNAL, JOB.source_id, PART_BYTES).discard()
    assert (bucket.objects, bucket.uploads) == ({JOURNAL: b""}, {})  # the mark of the job


def test_an_object_that_is_complete_is_not_received_again() -> None:
    bucket = FakeBucket()
    _, result = attempt(bucket, JOB, IMAGE, None)
    again = S3Destination(bucket, KEY, JOURNAL, JOB.source_id, PART_BYTES)
    assert (again.finished, again.journal) == (result, None)
    assert S3Destination(bucket, KEY, JOURNAL, "another source", PART_BYTES).finished is None
    bucket.etags[KEY] = "another"
    assert S3Destination(bucket, KEY, JOURNAL, JOB.source_id, PART_BYTES).finished is None
