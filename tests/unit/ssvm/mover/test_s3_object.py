# SPDX-License-Identifier: Apache-2.0
"""Uploads to servers that encrypt, lose answers, list by pages or lie; tests/s3 has a real one."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest
from attrs import define, field

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.mover.s3_connection import S3Connection
from systemvm.ssvm.mover.s3_object import S3Object
from systemvm.ssvm.s3 import bounded_xml
from systemvm.ssvm.s3.answers import S3Answer
from systemvm.ssvm.s3.endpoint import S3Endpoint
from systemvm.ssvm.s3.failure import S3Error
from systemvm.ssvm.s3.requests import S3Request
from systemvm.ssvm.s3.signing import S3Credentials, Signer
from systemvm.wire.transfer_failure import TransferFailure

Result = TypeVar("Result")
KEY = "template/tmpl/2/201/a.qcow2"
ENDPOINT = S3Endpoint(False, "s3.example.test", 80, "images")


@define
class FakeBucket:
    """Answers as S3 does, as far as these tests need it."""

    is_encrypted: bool = False
    wrong_etag: bool = False
    completion: str = ""  # an error instead of the answer, after the object was made
    listed: list[str] = field(factory=list)  # unfinished uploads of an earlier mover, one on each page
    parts: dict[int, bytes] = field(factory=dict)
    content: bytes | None = None
    etag: str = ""
    log: list[str] = field(factory=list)

    def exchange(self, request: S3Request, read: Callable[[S3Answer], Result]) -> Result:
        return read(self._answer(request, dict(request.query)))

    def _answer(self, request: S3Request, query: dict[str, str]) -> S3Answer:
        self.log.append(f"{request.method} {query.get('partNumber', query.get('uploadId', ''))}".strip())
        body = bytes(request.body)
        match request.method:
            case "GET":
                return self._listing(query)
            case "HEAD":
                assert self.content is not None
                size = str(len(self.content))
                return S3Answer(200, {"content-length": size, "etag": self.etag, **self._encryption()})
            case "PUT" if "partNumber" in query:
                self.parts[int(query["partNumber"])] = body
                return self._stored(body)
            case "PUT":
                self.content, answer = body, self._stored(body)
                self.etag = answer.headers["etag"]
                return answer
            case "POST" if "uploads" in query:
                return _document("InitiateMultipartUploadResult", "<UploadId>new</UploadId>")
            case "POST":
                return self._complete(body)
        if request.method == "DELETE" and "uploadId" not in query:
            self.content = None
        return S3Answer(204, {})

    def _encryption(self) -> dict[str, str]:
        return {"x-amz-server-side-encryption": "aws:kms"} if self.is_encrypted else {}

    def _stored(self, body: bytes) -> S3Answer:
        etag = "opaque" if self.is_encrypted else hashlib.md5(body).hexdigest()
        return S3Answer(200, {"etag": f'"{etag}"', **self._encryption()})

    def _listing(self, query: dict[str, str]) -> S3Answer:
        if "uploadId" in query:
            return _document("ListPartsResult", "")
        page = int(query.get("upload-id-marker", "0"))
        if page == len(self.listed):
            return _document("ListMultipartUploadsResult", "")
        upload = f"<Key>{KEY}</Key><UploadId>{self.listed[page]}</UploadId><Initiated>{page}</Initiated>"
        other = f"<Upload><Key>{KEY}.other</Key><UploadId>other</UploadId></Upload>"
        marker = f"<NextKeyMarker>{KEY}</NextKeyMarker><NextUploadIdMarker>{page + 1}</NextUploadIdMarker>"
        truncated = f"<IsTruncated>true</IsTruncated>{marker}"
        return _document("ListMultipartUploadsResult", f"<Upload>{upload}</Upload>{other}{truncated}")

    def _complete(self, body: bytes) -> S3Answer:
        numbers = [int(each.text_of("PartNumber") or "") for each in bounded_xml.parse(body).all("Part")]
        self.content = b"".join(self.parts[number] for number in numbers)
        digests = b"".join(hashlib.md5(self.parts[number]).digest() for number in numbers)
        self.etag = f"{hashlib.md5(digests).hexdigest()}-{len(numbers)}"
        if self.is_encrypted or self.wrong_etag:
            self.etag = "opaque-2"
        if self.completion:
            return _document("Error", f"<Code>{self.completion}</Code>")
        return _document("CompleteMultipartUploadResult", f"<ETag>{self.etag}</ETag>")


def _document(name: str, body: str) -> S3Answer:
    return S3Answer(200, {}, f"<{name}>{body}</{name}>".encode())


def store(bucket: FakeBucket, content: bytes = b"0123456789") -> S3Object:
    made = S3Object(bucket, KEY, part_bytes=4)
    made.write(content)
    made.finish()
    return made


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_entity_tags_of_an_encrypting_server_are_not_compared(is_encrypted: bool) -> None:
    bucket = FakeBucket(is_encrypted=is_encrypted)
    store(bucket)
    assert bucket.content == b"0123456789"
    store(bucket, b"abc")
    assert bucket.content == b"abc"


def test_an_object_that_is_another_one_is_deleted() -> None:
    bucket = FakeBucket(wrong_etag=True)
    with pytest.raises(S3Error) as failed:
        store(bucket)
    assert failed.value.code is TransferFailure.STORE_FAILED
    assert bucket.content is None


def test_a_repeated_completion_is_decided_by_the_object() -> None:
    bucket = FakeBucket(completion="NoSuchUpload")
    store(bucket)
    assert bucket.content == b"0123456789"
    with pytest.raises(S3Error):
        store(FakeBucket(completion="NoSuchUpload", wrong_etag=True))


def test_the_latest_of_earlier_uploads_is_continued_and_others_are_discarded() -> None:
    bucket = FakeBucket(listed=["a", "b", "c"])
    store(bucket)
    assert [entry for entry in bucket.log if entry.startswith("DELETE")] == ["DELETE a", "DELETE b"]
    assert bucket.log[-2:] == ["POST c", "HEAD"]


def test_an_abort_discards_every_upload_of_the_key() -> None:
    bucket = FakeBucket(listed=["a", "b"])
    S3Object(bucket, KEY, part_bytes=4).abort()
    assert bucket.log[-2:] == ["DELETE a", "DELETE b"]


RESPONSES = {
    "not HTTP": (b"220 mail.example.test ESMTP\r\n", TransferFailure.STORE_FAILED),
    "too large": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + bytes(5_000_000),
        TransferFailure.STORE_FAILED,
    ),
    "cut": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<a", TransferFailure.CONNECTION_LOST),
    "nothing": (b"", TransferFailure.CONNECTION_LOST),
}


@pytest.mark.parametrize(("response", "code"), RESPONSES.values(), ids=RESPONSES.keys())
def test_an_answer_that_is_not_complete_http_is_a_typed_error(response: bytes, code: TransferFailure) -> None:
    ours, theirs = socket.socketpair()
    errors: list[TransferError] = []

    def give_up(error: TransferError) -> socket.socket:
        errors.append(error)
        raise error

    server = S3Connection(ours, ENDPOINT, Signer(S3Credentials("a", "b"), "r"), give_up, DEFAULT)

    def answer() -> None:
        theirs.recv(65536)
        with contextlib.suppress(OSError):  # the client closes when it has enough
            theirs.sendall(response)
        theirs.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(TransferError) as failed:
        server.exchange(S3Request("GET", "k"), lambda answer: answer)
    server.close()
    thread.join()
    assert failed.value.code is code
    assert bool(errors) == code.is_retryable
