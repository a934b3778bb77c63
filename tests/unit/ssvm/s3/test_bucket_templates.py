# SPDX-License-Identifier: Apache-2.0
"""Templates and jobs in a bucket: published, found, listed, put away, deleted, swept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from fake_bucket import KEY, FakeBucket
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.s3 import object_keys, templates
from systemvm.ssvm.s3.answers import S3Answer
from systemvm.ssvm.s3.jobs import BucketJobs
from systemvm.ssvm.s3.requests import S3Request
from systemvm.ssvm.s3.templates import BucketTemplates
from systemvm.ssvm.store_messages import (
    BrowseStoreRequest,
    DeleteRequest,
    FindRequest,
    JobKey,
    ListRequest,
    PublishRequest,
    QuarantineRequest,
    SweepRequest,
)
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

OWNER, JOB = "s-1-VM", "job-1"
NAME = object_keys.image_name(JOB, ImageFormat.QCOW2)
IMAGE = object_keys.image_key(2, 204, NAME)
MARK = object_keys.journal_key(OWNER, JOB, IMAGE)
PROPERTIES = object_keys.properties_key(2, 204)
ORDER = PublishRequest(
    JobKey("m", OWNER, JOB), 2, 204, "204-2-test", "A tést = image", ImageFormat.QCOW2, True, True,
    1 << 30, "{MD5}x",
)  # fmt: skip
MODIFIED_S = 1_793_491_200.0  # what FakeBucket says of every object
DAY_S = 24 * 3600.0


@pytest.fixture
def bucket() -> FakeBucket:
    """A bucket in which a mover has stored an image."""
    return FakeBucket(objects={IMAGE: b"image", MARK: b"{}"})


def published(bucket: FakeBucket, order: PublishRequest = ORDER) -> None:
    BucketTemplates(bucket, lambda: MODIFIED_S).publish(order)


def sweep(bucket: FakeBucket, now_s: float, *keep: str, keep_resumable: bool = False) -> None:
    order = SweepRequest("m", OWNER, list(keep), keep_resumable=keep_resumable)
    BucketJobs(bucket, lambda: now_s).sweep(order)


def test_publishing_writes_the_properties_last_and_ends_the_job(bucket: FakeBucket) -> None:
    there = BucketTemplates(bucket)
    assert there.find(FindRequest("m", JOB, 2, 204)) is None
    first = there.publish(ORDER)
    assert (first.install_path, first.size_bytes) == (IMAGE, 5)
    assert sorted(bucket.objects) == sorted([IMAGE, PROPERTIES])
    assert there.find(FindRequest("m", JOB, 2, 204)) == first
    assert there.find(FindRequest("m", "job-2", 2, 204)) is None
    assert there.publish(ORDER) == first  # its answer was lost
    [listed] = there.list_templates(ListRequest("m")).templates
    assert (listed.unique_name, listed.description, listed.job_id) == ("204-2-test", "A tést = image", JOB)
    assert (listed.file_name, listed.problem, listed.modified_unix_s) == (NAME, "", MODIFIED_S)


def test_a_later_job_replaces_the_image_of_an_earlier_one(bucket: FakeBucket) -> None:
    published(bucket)
    later = object_keys.image_key(2, 204, object_keys.image_name("job-2", ImageFormat.QCOW2))
    bucket.objects[later] = b"later image"
    published(bucket, evolve(ORDER, job=JobKey("m", OWNER, "job-2")))
    assert sorted(bucket.objects) == sorted([later, PROPERTIES])


def test_a_place_of_another_template_is_not_taken(bucket: FakeBucket) -> None:
    published(bucket)
    with pytest.raises(TransferError, match="belongs to another template") as refused:
        published(bucket, evolve(ORDER, unique_name="another", job=JobKey("m", OWNER, "job-2")))
    assert refused.value.code is TransferFailure.STORE_FAILED


def test_an_image_that_is_not_there_is_not_published() -> None:
    with pytest.raises(TransferError, match="no image to publish"):
        published(FakeBucket())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({IMAGE: None}, "its file is missing"),
        ({IMAGE: b"longer image"}, "its file has 12 bytes, not 5"),
        ({PROPERTIES: b"colour=blue"}, "template.properties is not valid: uniquename is missing"),
        ({PROPERTIES: None}, "template.properties is missing"),
    ],
)
def test_a_damaged_template_is_listed_with_its_problem(
    bucket: FakeBucket, change: dict[str, bytes | None], problem: str
) -> None:
    published(bucket)
    for key, content in change.items():
        if content is None:
            del bucket.objects[key]
        else:
            bucket.objects[key] = content
    bucket.etags.clear()
    [listed] = BucketTemplates(bucket).list_templates(ListRequest("m")).templates
    assert listed.problem == problem


def test_pages_of_a_listing_have_every_template_once(
    bucket: FakeBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "LIST_PAGE", 2)
    published(bucket)
    places = {(2, 20), (2, 2), (2, 204), (10, 1), (1, 1)}
    for account, number in places - {(2, 204)}:
        bucket.objects[object_keys.properties_key(account, number)] = bucket.objects[PROPERTIES]
    bucket.objects["template/tmpl/2/not-a-number/x"] = bucket.objects["template/tmpl/README"] = b""
    found, after = [], ""
    while True:
        page = BucketTemplates(bucket).list_templates(ListRequest("m", after))
        found += [(each.account_id, each.template_id) for each in page.templates]
        after = page.next
        if not after:
            break
    assert len(found) == len(places)
    assert set(found) == places


def test_deleting_leaves_nothing_and_can_be_repeated(bucket: FakeBucket) -> None:
    published(bucket)
    for _ in range(2):
        BucketTemplates(bucket).delete(DeleteRequest("m", OWNER, 2, 204))
        assert bucket.objects == {}


def test_the_quarantine_hides_a_template_and_deletes_it_a_week_later(bucket: FakeBucket) -> None:
    published(bucket)
    there = BucketTemplates(bucket, lambda: MODIFIED_S)
    there.quarantine(QuarantineRequest("m", 2, 204, "job-2"))
    assert len(there.list_templates(ListRequest("m")).templates) == 1  # of another job
    there.quarantine(QuarantineRequest("m", 2, 204, JOB))
    assert there.list_templates(ListRequest("m")).templates == []
    sweep(bucket, MODIFIED_S + 6 * DAY_S)
    assert IMAGE in bucket.objects
    sweep(bucket, MODIFIED_S + 8 * DAY_S)
    assert bucket.objects == {}


def test_a_sweep_removes_what_unwanted_jobs_have_left(bucket: FakeBucket) -> None:
    sweep(bucket, MODIFIED_S, JOB)
    sweep(bucket, MODIFIED_S, keep_resumable=True)  # it has a journal
    assert set(bucket.objects) == {IMAGE, MARK}
    sweep(bucket, MODIFIED_S)
    assert bucket.objects == {}


def test_a_sweep_spares_what_is_published_and_young_jobs_of_other_ssvms(bucket: FakeBucket) -> None:
    published(bucket)
    bucket.objects[MARK] = b"{}"  # its deletion broke off
    other = object_keys.journal_key("s-2-VM", "job-3", KEY)
    bucket.objects |= {other: b"", KEY: b"half"}
    sweep(bucket, MODIFIED_S + DAY_S / 2)
    assert set(bucket.objects) == {IMAGE, PROPERTIES, other, KEY}
    sweep(bucket, MODIFIED_S + 2 * DAY_S)
    assert set(bucket.objects) == {IMAGE, PROPERTIES}


def test_discarding_a_job_aborts_its_upload(bucket: FakeBucket) -> None:
    bucket.objects = {object_keys.journal_key(OWNER, JOB, KEY): b""}
    bucket.uploads = {"one": {1: b"part"}}
    BucketJobs(bucket).discard(OWNER, JOB)
    assert (bucket.objects, bucket.uploads) == ({}, {})


def test_a_mark_is_kept_when_a_job_is_made_again(bucket: FakeBucket) -> None:
    BucketJobs(bucket).make(JobKey("m", OWNER, JOB), IMAGE)
    assert bucket.objects[MARK] == b"{}"


def test_directories_and_files_are_browsed(bucket: FakeBucket) -> None:
    there = BucketTemplates(bucket)
    names = [(each.name, each.is_directory) for each in there.browse(BrowseStoreRequest("m", "")).objects]
    assert names == [("systemvm-jobs", True), ("template", True)]
    [image] = there.browse(BrowseStoreRequest("m", "template/tmpl/2/204")).objects
    assert (image.name, image.size_bytes) == (NAME, 5)
    assert there.browse(BrowseStoreRequest("m", IMAGE)).objects[0].size_bytes == 5
    with pytest.raises(TransferError) as missing:
        there.browse(BrowseStoreRequest("m", "template/x"))
    assert missing.value.code is TransferFailure.SOURCE_MISSING


def test_keys_that_are_not_ours_have_no_place() -> None:
    assert object_keys.parse_place(IMAGE) == (2, 204, NAME)
    assert object_keys.parse_mark(MARK) == object_keys.JobMark(OWNER, JOB, IMAGE)
    for key in ("template/tmpl/2/204/", "template/tmpl/2/204/a/b", "template/tmpl/x/1/a", "other"):
        assert object_keys.parse_place(key) is None
    assert object_keys.parse_mark("systemvm-jobs/a/b") is None


class Refusing(FakeBucket):
    """Refuses one method."""

    def __init__(self, method: str, status: int, code: str) -> None:
        super().__init__()
        self._refusal = method, status, code

    def exchange(self, request: S3Request, read: Callable[[S3Answer], Any]) -> Any:
        method, status, code = self._refusal
        if request.method == method:
            body = f"<Error><Code>{code}</Code></Error>".encode()
            return read(S3Answer(status, {}, body))
        return super().exchange(request, read)


def test_writing_is_tried_without_a_trace(bucket: FakeBucket) -> None:
    before = dict(bucket.objects)
    BucketJobs(bucket).probe()
    assert bucket.objects == before


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_keys_that_must_not_write_or_delete_are_refused(method: str) -> None:
    with pytest.raises(TransferError) as refused:
        BucketJobs(Refusing(method, 403, "AccessDenied")).probe()
    assert refused.value.code is TransferFailure.STORE_REFUSES


def test_a_full_bucket_says_nothing_about_the_keys() -> None:
    BucketJobs(Refusing("PUT", 507, "InsufficientStorage")).probe()


def test_what_a_broken_off_probe_has_left_is_no_job(bucket: FakeBucket) -> None:
    bucket.objects[object_keys.PROBE] = b""
    sweep(bucket, MODIFIED_S + 2 * DAY_S, JOB)
    assert object_keys.PROBE in bucket.objects
    assert object_keys.parse_mark(object_keys.PROBE) is None
