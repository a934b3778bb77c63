# SPDX-License-Identifier: Apache-2.0
"""Uploads to servers that encrypt, lose answers, list by pages or lie; tests/s3 has a real one."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from fake_bucket import KEY, FakeBucket
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.mover.s3_object import S3Object
from systemvm.ssvm.s3.connection import S3Connection
from systemvm.ssvm.s3.endpoint import S3Endpoint
from systemvm.ssvm.s3.failure import S3Error
from systemvm.ssvm.s3.requests import S3Request
from systemvm.ssvm.s3.signing import S3Credentials, Signer
from systemvm.wire.transfer_failure import TransferFailure

ENDPOINT = S3Endpoint(False, "s3.example.test", 80, "images")


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
    bucket = FakeBucket(uploads={"a": {}, "b": {}, "c": {}})
    store(bucket)
    assert [entry for entry in bucket.log if entry.startswith("DELETE")] == ["DELETE a", "DELETE b"]
    assert bucket.log[-2:] == ["POST c", "HEAD"]


def test_an_abort_discards_every_upload_of_the_key() -> None:
    bucket = FakeBucket(uploads={"a": {}, "b": {}})
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
