# SPDX-License-Identifier: Apache-2.0
"""Requests to a bucket, and answers that are right, refusals or lies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.s3 import answers, bounded_xml, requests
from systemvm.ssvm.s3.answers import ObjectSummary, S3Answer, UnfinishedUpload
from systemvm.ssvm.s3.endpoint import S3Endpoint, region_of
from systemvm.ssvm.s3.failure import S3Error
from systemvm.ssvm.s3.requests import UploadedPart
from systemvm.ssvm.s3.signing import S3Credentials, Signer
from systemvm.wire.transfer_failure import TransferFailure

ENDPOINT = S3Endpoint(False, "s3.example.test", 8080, "images")
SIGNER = Signer(S3Credentials("key", "secret"), ENDPOINT.region)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MD5 = "0cc175b9c0f1b6a831c399e269772661"


def document(body: str, status: int = 200) -> S3Answer:
    return S3Answer(status, {}, f'<?xml version="1.0"?>{body}'.encode())


def test_a_part_carries_both_digests_of_its_body() -> None:
    body = bytearray(b"part")
    request = requests.upload_part("a/b c", "id+1", 3, memoryview(body), hashlib.md5(body).digest())
    headers = request.signed_headers(ENDPOINT, SIGNER, NOW)
    assert request.target(ENDPOINT) == "/images/a/b%20c?partNumber=3&uploadId=id%2B1"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(b"part").hexdigest()
    assert headers["content-length"] == "4"
    assert headers["host"] == "s3.example.test:8080"
    assert "content-md5;host;x-amz-content-sha256;x-amz-date" in headers["authorization"]


def test_completion_lists_the_parts_in_order() -> None:
    request = requests.complete_upload("k", "u", [UploadedPart(1, "a&b", 5), UploadedPart(2, "c", 1)])
    root = bounded_xml.parse(bytes(request.body))
    assert [(each.text_of("PartNumber"), each.text_of("ETag")) for each in root.all("Part")] == [
        ("1", '"a&b"'), ("2", '"c"'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "method", "target"),
    [
        (requests.create_upload("k"), "POST", "/images/k?uploads="),
        (requests.abort_upload("k", "u"), "DELETE", "/images/k?uploadId=u"),
        (requests.list_parts("k", "u", 7), "GET", "/images/k?max-parts=1000&part-number-marker=7&uploadId=u"),
        (requests.list_uploads("t/"), "GET", "/images?max-uploads=1000&prefix=t%2F&uploads="),
        (requests.head_object("k"), "HEAD", "/images/k"),
        (requests.delete_object("k"), "DELETE", "/images/k"),
        (
            requests.list_objects("t/", "/", "c"),
            "GET",
            "/images?continuation-token=c&delimiter=%2F&list-type=2&max-keys=1000&prefix=t%2F",
        ),
    ],
)
def test_requests_have_their_target(request_: requests.S3Request, method: str, target: str) -> None:
    assert (request_.method, request_.target(ENDPOINT)) == (method, target)


@pytest.mark.parametrize(
    ("first", "last", "header"),
    [(None, None, None), (0, None, "bytes=0-"), (5, 9, "bytes=5-9")],
)
def test_an_object_is_read_whole_or_in_part(first: int | None, last: int | None, header: str | None) -> None:
    assert requests.get_object("k", first, last).headers.get("range") == header


def test_a_presigned_link_has_the_endpoint_and_no_secret() -> None:
    link = requests.presigned_get(ENDPOINT, SIGNER, "a/b", 60, NOW)
    assert link.startswith("http://s3.example.test:8080/images/a/b?X-Amz-Algorithm=")
    assert "secret" not in link


@pytest.mark.parametrize(
    ("endpoint", "authority"),
    [
        (S3Endpoint(True, "a.test", 443, "b"), "a.test"),
        (S3Endpoint(False, "a.test", 80, "b"), "a.test"),
        (S3Endpoint(True, "a.test", 80, "b"), "a.test:80"),
        (S3Endpoint(True, "2001:db8::1", 443, "b"), "[2001:db8::1]"),
    ],
)
def test_a_port_is_named_when_it_is_not_the_schemes(endpoint: S3Endpoint, authority: str) -> None:
    assert endpoint.authority == authority


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("s3.eu-central-1.amazonaws.com", "eu-central-1"), ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("s3.us-gov-west-1.amazonaws.com", "us-gov-west-1"), ("s3.amazonaws.com", "us-east-1"),
        ("s3.eu-central-1.amazonaws.com.example.test", "us-east-1"), ("swift.example.test", "us-east-1"),
    ],
)  # fmt: skip
def test_a_region_is_read_from_amazons_names_only(host: str, region: str) -> None:
    assert region_of(host) == region


def test_pages_are_read() -> None:
    upload = document(
        "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
    )
    assert answers.read_upload_id(upload) == "u1"
    parts = answers.read_parts(document(
        "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>"
        '<Part><PartNumber>2</PartNumber><ETag>"e"</ETag><Size>5</Size></Part></ListPartsResult>'
    ))  # fmt: skip
    assert parts == answers.PartPage((UploadedPart(2, "e", 5),), 2)
    uploads = answers.read_uploads(document(
        "<ListMultipartUploadsResult><EncodingType>url</EncodingType><Upload><Key>a%20b</Key>"
        "<UploadId>u</UploadId><Initiated>2026</Initiated></Upload></ListMultipartUploadsResult>"
    ))  # fmt: skip
    assert uploads.uploads == (UnfinishedUpload("a b", "u", "2026"),)
    objects = answers.read_objects(document(
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>n</NextContinuationToken>"
        '<Contents><Key>k</Key><Size>7</Size><ETag>"e"</ETag></Contents>'
        "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>"
    ))  # fmt: skip
    assert objects == answers.ObjectPage((ObjectSummary("k", 7, "e"),), ("p/",), "n")
    head = answers.read_head(S3Answer(200, {"content-length": "9", "etag": '"e-2"'}), "k")
    assert head == ObjectSummary("k", 9, "e-2")


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(S3Error) as failed:
        answers.read_completed(document("<Error><Code>InternalError</Code></Error>"))
    assert failed.value.is_transient


@pytest.mark.parametrize(
    ("status", "code", "failure", "transient", "missing"),
    [
        (403, "SignatureDoesNotMatch", TransferFailure.STORE_REFUSES, False, False),
        (403, "", TransferFailure.STORE_REFUSES, False, False),
        (403, "RequestTimeTooSkewed", TransferFailure.STORE_REFUSES, False, False),
        (404, "NoSuchBucket", TransferFailure.STORE_REFUSES, False, False),
        (404, "NoSuchKey", TransferFailure.STORE_FAILED, False, True),
        (404, "NoSuchUpload", TransferFailure.STORE_FAILED, False, True),
        (404, "", TransferFailure.STORE_FAILED, False, True),
        (503, "SlowDown", TransferFailure.STORE_FAILED, True, False),
        (503, "", TransferFailure.STORE_FAILED, True, False),
        (400, "BadDigest", TransferFailure.STORE_FAILED, True, False),
        (400, "InvalidPart", TransferFailure.STORE_FAILED, False, False),
        (403, "QuotaExceeded", TransferFailure.STORE_FULL, False, False),
        (507, "", TransferFailure.STORE_FULL, False, False),
        (301, "PermanentRedirect", TransferFailure.STORE_FAILED, False, False),
    ],
)
def test_a_refusal_has_its_code(
    status: int, code: str, failure: TransferFailure, transient: bool, missing: bool
) -> None:
    body = f"<Error><Code>{code}</Code><Message>SECRET</Message></Error>" if code else "<html>no</html>"
    with pytest.raises(S3Error) as failed:
        answers.require_success(document(body, status), "an object")
    assert failed.value.code is failure
    assert (failed.value.is_transient, failed.value.is_missing) == (transient, missing)
    assert failed.value.hint
    assert "SECRET" not in str(failed.value)


def test_text_of_the_server_does_not_reach_a_message() -> None:
    body = "<Error><Code>a&#10;b &lt;script&gt;</Code></Error>"
    with pytest.raises(S3Error) as failed:
        answers.require_success(document(body, 400), "an object")
    assert "script" not in failed.value.message


def test_a_part_of_other_bytes_is_damaged_unless_the_server_encrypts() -> None:
    good = S3Answer(200, {"etag": f'"{MD5}"'})
    assert answers.read_part(good, 1, 1, MD5) == UploadedPart(1, MD5, 1)
    other = {"etag": '"00000000000000000000000000000000"'}
    with pytest.raises(S3Error) as failed:
        answers.read_part(S3Answer(200, other), 1, 1, MD5)
    assert failed.value.s3_code == "BadDigest"
    for headers in (
        {"x-amz-server-side-encryption": "aws:kms"},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
    ):
        assert answers.read_part(S3Answer(200, {**other, **headers}), 1, 1, MD5).number == 1
    with pytest.raises(S3Error):
        answers.read_part(S3Answer(200, {**other, "x-amz-server-side-encryption": "AES256"}), 1, 1, MD5)


PART = "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag><Size>{}</Size></Part>"
OBJECT = "<Contents><Key>{}</Key><Size>{}</Size></Contents>"


@pytest.mark.parametrize(
    ("read", "name", "body"),
    [
        (answers.read_upload_id, "InitiateMultipartUploadResult", ""),
        (answers.read_upload_id, "InitiateMultipartUploadResult", "<UploadId>a b</UploadId>"),
        (answers.read_upload_id, "html", "<UploadId>a</UploadId>"),
        (answers.read_completed, "CompleteMultipartUploadResult", ""),
        (answers.read_parts, "ListPartsResult", PART.format(0, "e", 1)),
        (answers.read_parts, "ListPartsResult", PART.format(10_001, "e", 1)),
        (answers.read_parts, "ListPartsResult", PART.format(1, "", 1)),
        (answers.read_parts, "ListPartsResult", PART.format(1, "e", -1)),
        (answers.read_parts, "ListPartsResult", "<IsTruncated>true</IsTruncated>"),
        (answers.read_uploads, "ListMultipartUploadsResult", "<Upload><Key>k</Key></Upload>"),
        (answers.read_uploads, "ListMultipartUploadsResult", "<IsTruncated>true</IsTruncated>"),
        (answers.read_objects, "ListBucketResult", OBJECT.format("", 1)),
        (answers.read_objects, "ListBucketResult", OBJECT.format("k", "x")),
        (answers.read_objects, "ListBucketResult", OBJECT.format("k" * 1025, 1)),
        (answers.read_objects, "ListBucketResult", "<IsTruncated>true</IsTruncated>"),
    ],
)
def test_an_incomplete_answer_is_not_read(read: Callable[[S3Answer], object], name: str, body: str) -> None:
    with pytest.raises(S3Error) as failed:
        read(document(f"<{name}>{body}</{name}>"))
    assert failed.value.code is TransferFailure.STORE_FAILED
    assert not failed.value.is_transient


READERS = (
    answers.read_upload_id, answers.read_completed, answers.read_parts, answers.read_uploads,
    answers.read_objects,
)  # fmt: skip


@given(
    st.sampled_from(READERS),
    st.integers(100, 599),
    st.binary(max_size=100)
    | st.lists(
        st.sampled_from(
            ["<ListPartsResult>", "</ListPartsResult>", "<Part>", "</Part>", "<ETag>", "</ETag>", "1", '"'
             "<Error>", "<Code>SlowDown</Code>", "</Error>", "<IsTruncated>true</IsTruncated>"]
        ),
        max_size=12,
    ).map(lambda pieces: "".join(pieces).encode()),
)  # fmt: skip
def test_any_answer_is_read_or_a_typed_error(
    read: Callable[[S3Answer], object], status: int, body: bytes
) -> None:
    try:
        read(S3Answer(status, {}, body))
    except S3Error as error:
        assert error.code in TransferFailure


DATES = ("Mon, 01 Jan 2024 00:00:00 +9999999999999999", "Mon, 01 Jan 0001 00:00:00 GMT",
         "0001-01-01T00:00:00", "9999-12-31T23:59:59-23:59", "", "yesterday")  # fmt: skip


@given(st.sampled_from(DATES) | st.text(max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_any_head_is_an_object_or_a_typed_error(modified: str, length: str, etag: str) -> None:
    headers = {"last-modified": modified, "content-length": length, "etag": etag}
    try:
        assert answers.read_head(S3Answer(200, headers), "k").key == "k"
    except S3Error as error:
        assert error.code in TransferFailure
    assert answers.read_head(S3Answer(200, {**headers, "content-length": "1", "etag": '"e"'}), "k")
    assert answers.iso_date(modified) < 1e12
