# SPDX-License-Identifier: Apache-2.0
"""Images on a real S3 server: whole, resumed, broken off, damaged, discarded and linked."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import TypeVar
from urllib.parse import urlsplit

import pytest
import trustme
from attrs import evolve

from s3.relay import relayed
from s3.swift import CREDENTIALS, PLAIN, TLS, Swift
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.mover.s3_object import S3Object
from systemvm.ssvm.s3 import answers, object_keys, requests
from systemvm.ssvm.s3.answers import S3Answer
from systemvm.ssvm.s3.connection import S3Connection
from systemvm.ssvm.s3.endpoint import S3Endpoint
from systemvm.ssvm.s3.failure import S3Error
from systemvm.ssvm.s3.requests import S3Request
from systemvm.ssvm.s3.signing import S3Credentials, Signer
from systemvm.wire.transfer_failure import TransferFailure

pytestmark = pytest.mark.netns

PART = 5 * MIB  # the smallest that S3 accepts
Result = TypeVar("Result")


@pytest.fixture(scope="module")
def image() -> bytes:
    return random.Random(1).randbytes(12 * MIB + 17)


@pytest.fixture
def key() -> str:
    return object_keys.image_key(2, 201, f"{uuid.uuid4()} é.qcow2")


def store(server: S3Connection, key: str, content: bytes) -> S3Object:
    made = S3Object(server, key, PART)
    for start in range(0, len(content), 300_000):
        made.write(memoryview(content)[start : start + 300_000])
    made.finish()
    return made


def download(swift: Swift, link: str) -> tuple[int, bytes]:
    target = urlsplit(link)
    client = HTTPConnection(target.netloc)
    client.sock = swift.connect(PLAIN)
    client.request("GET", f"{target.path}?{target.query}")
    answer = client.getresponse()
    return answer.status, answer.read()


def link_to(key: str, credentials: S3Credentials = CREDENTIALS, age: timedelta = timedelta()) -> str:
    signer = Signer(credentials, PLAIN.region)
    return requests.presigned_get(PLAIN, signer, key, 60, datetime.now(UTC) - age)


def head(swift: Swift, key: str) -> answers.ObjectSummary | None:
    try:
        return swift.client(PLAIN).exchange(
            requests.head_object(key), lambda answer: answers.read_head(answer, key)
        )
    except S3Error as error:
        assert error.is_missing
        return None


def uploads(swift: Swift, key: str) -> tuple[answers.UnfinishedUpload, ...]:
    return swift.client(PLAIN).exchange(requests.list_uploads(key), answers.read_uploads).uploads


@pytest.mark.parametrize("endpoint", [PLAIN, TLS], ids=["http", "https"])
def test_an_image_of_several_parts_is_stored_whole(
    swift: Swift, image: bytes, key: str, endpoint: S3Endpoint
) -> None:
    made = store(swift.client(endpoint), key, image)
    assert (made.size_bytes, made.written_bytes) == (len(image), len(image))
    assert download(swift, link_to(key)) == (200, image)
    found = head(swift, key)
    assert found is not None
    assert found.etag.endswith("-3")
    assert uploads(swift, key) == ()


@pytest.mark.parametrize("size", [0, 1, PART - 1])
def test_a_small_image_is_one_object_at_once(swift: Swift, image: bytes, key: str, size: int) -> None:
    store(swift.client(PLAIN), key, image[:size])
    assert download(swift, link_to(key)) == (200, image[:size])


def test_a_part_of_an_object_is_read(swift: Swift, image: bytes, key: str) -> None:
    store(swift.client(PLAIN), key, image)
    edge = PART - 3
    answer = swift.client(PLAIN).exchange(requests.get_object(key, edge, edge + 5), lambda answer: answer)
    assert (answer.status, answer.body) == (206, image[edge : edge + 6])


@pytest.mark.parametrize("cut_at", [100, PART + 200_000, 12 * MIB], ids=["begin", "part", "last"])
def test_a_broken_connection_costs_one_part(swift: Swift, image: bytes, key: str, cut_at: int) -> None:
    errors: list[TransferError] = []
    broken = relayed(swift.connect(PLAIN), cut_at=cut_at)
    made = store(swift.client(PLAIN, first=broken, errors=errors), key, image)
    assert [error.code for error in errors] == [TransferFailure.CONNECTION_LOST]
    assert made.written_bytes == len(image)
    assert download(swift, link_to(key)) == (200, image)


def test_a_part_that_is_damaged_on_its_way_is_sent_again(swift: Swift, image: bytes, key: str) -> None:
    errors: list[TransferError] = []
    damaging = relayed(swift.connect(PLAIN), flip_at=PART + 100_000)
    store(swift.client(PLAIN, first=damaging, errors=errors), key, image)
    assert [error.s3_code for error in errors if isinstance(error, S3Error)] in (
        ["BadDigest"], ["XAmzContentSHA256Mismatch"],
    )  # fmt: skip
    assert download(swift, link_to(key)) == (200, image)


def test_parts_of_an_earlier_mover_are_not_sent_again(swift: Swift, image: bytes, key: str) -> None:
    S3Object(swift.client(PLAIN), key, PART).write(image)  # killed then
    assert len(uploads(swift, key)) == 1
    made = store(swift.client(PLAIN), key, image)
    assert made.written_bytes == len(image) - 2 * PART
    assert download(swift, link_to(key)) == (200, image)
    assert uploads(swift, key) == ()


def test_parts_of_another_image_are_replaced(swift: Swift, image: bytes, key: str) -> None:
    S3Object(swift.client(PLAIN), key, PART).write(bytes(3 * PART))
    made = store(swift.client(PLAIN), key, image)
    assert made.written_bytes == len(image)
    assert download(swift, link_to(key)) == (200, image)


def test_an_aborted_image_leaves_nothing(swift: Swift, image: bytes, key: str) -> None:
    for _ in range(2):
        made = S3Object(swift.client(PLAIN), key, PART)
        made.write(image)
    made.abort()
    assert uploads(swift, key) == ()
    assert head(swift, key) is None


class LosesTheAnswer(S3Connection):
    """Sends the completion twice, as after an answer that was lost."""

    def exchange(self, request: S3Request, read: Callable[[S3Answer], Result]) -> Result:
        if request.method == "POST" and request.body:
            super().exchange(request, lambda answer: answer)
        return super().exchange(request, read)


def test_a_completion_whose_answer_is_lost_is_repeated(swift: Swift, image: bytes, key: str) -> None:
    signer = Signer(CREDENTIALS, PLAIN.region)
    plain = swift.client(PLAIN)
    server = LosesTheAnswer(swift.connect(PLAIN), PLAIN, signer, plain._reconnect, plain._limits)
    store(server, key, image)
    assert download(swift, link_to(key)) == (200, image)


def test_an_image_beyond_the_parts_of_an_upload_is_too_large(swift: Swift, image: bytes, key: str) -> None:
    made = S3Object(swift.client(PLAIN), key, PART, max_parts=1)
    with pytest.raises(TransferError) as failed:
        made.write(image)
    assert failed.value.code is TransferFailure.TOO_LARGE
    made.abort()
    assert uploads(swift, key) == ()


@pytest.mark.parametrize(
    ("endpoint", "credentials", "reason"),
    [
        (PLAIN, evolve(CREDENTIALS, secret_key="another"), "SignatureDoesNotMatch"),
        (PLAIN, evolve(CREDENTIALS, access_key="cloud:stranger"), "SignatureDoesNotMatch"),
        (evolve(PLAIN, bucket="missing"), CREDENTIALS, "NoSuchBucket"),
        (evolve(PLAIN, region="eu-north-1"), CREDENTIALS, "AuthorizationHeaderMalformed"),
    ],
    ids=["secret", "access", "bucket", "region"],
)
def test_a_wrong_store_is_refused_with_its_reason(
    swift: Swift, image: bytes, key: str, endpoint: S3Endpoint, credentials: S3Credentials, reason: str
) -> None:
    with pytest.raises(S3Error) as failed:
        store(swift.client(endpoint, credentials, errors=[]), key, image)
    assert (failed.value.code, failed.value.s3_code) == (TransferFailure.STORE_REFUSES, reason)
    assert credentials.secret_key not in str(failed.value)


def test_a_certificate_of_an_unknown_ca_is_refused(swift: Swift, image: bytes, key: str) -> None:
    other = evolve(swift, ca_pem=trustme.CA().cert_pem.bytes().decode())
    with pytest.raises(TransferError) as failed:
        store(other.client(TLS, errors=[]), key, image)
    assert failed.value.code is TransferFailure.TLS_FAILED


def test_a_link_works_for_its_time_and_its_object_only(swift: Swift, key: str) -> None:
    store(swift.client(PLAIN), key, b"image")
    store(swift.client(PLAIN), f"{key}.other", b"other")
    link = link_to(key)
    assert download(swift, link) == (200, b"image")
    assert download(swift, link.replace(".qcow2?", ".qcow2.other?"))[0] == 403
    assert download(swift, link_to(key, age=timedelta(seconds=61)))[0] == 403
    assert download(swift, link_to(key, evolve(CREDENTIALS, secret_key="another")))[0] == 403


def test_a_listing_has_objects_and_prefixes(swift: Swift) -> None:
    prefix = f"listing-{uuid.uuid4()}/"
    for name in ("a&b é", "c/d", "c/e"):
        store(swift.client(PLAIN), prefix + name, b"x")
    page = swift.client(PLAIN).exchange(requests.list_objects(prefix, "/"), answers.read_objects)
    assert [(each.key, each.size_bytes) for each in page.objects] == [(f"{prefix}a&b é", 1)]
    assert (page.prefixes, page.continuation) == ((f"{prefix}c/",), "")
