# SPDX-License-Identifier: Apache-2.0
"""What an HTTP answer must look like before a byte of it is believed."""

from __future__ import annotations

import pytest

from systemvm.ssvm import response
from systemvm.ssvm.failure import Code, TransferError
from systemvm.ssvm.response import Body


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-length": ["12"]}, Body(12, False)),
        ({"content-length": ["12", "12"]}, Body(12, False)),
        ({"transfer-encoding": ["Chunked"]}, Body(None, True)),
        ({}, Body(None, False)),
        ({"content-encoding": ["identity"], "content-length": ["0"]}, Body(0, False)),
        ({"content-encoding": ["GZIP"], "content-length": ["12"]}, Body(12, False, "gzip")),
        ({"content-encoding": ["identity, x-gzip"]}, Body(None, False, "x-gzip")),
        ({"content-encoding": ["zstd"]}, Body(None, False, "zstd")),
    ],
)
def test_reads_a_body(headers: dict[str, list[str]], body: Body) -> None:
    assert response.read_body(headers) == body


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-length": ["12", "13"]}, Code.HTTP_INVALID),
        ({"content-length": ["+12"]}, Code.HTTP_INVALID),
        ({"content-length": ["1_2"]}, Code.HTTP_INVALID),
        ({"content-length": ["-1"]}, Code.HTTP_INVALID),
        ({"content-length": ["9" * 30]}, Code.HTTP_INVALID),
        ({"content-length": ["12"], "transfer-encoding": ["chunked"]}, Code.HTTP_INVALID),
        ({"transfer-encoding": ["gzip, chunked"]}, Code.HTTP_INVALID),
        ({"content-encoding": ["br"], "content-length": ["12"]}, Code.CONTENT_ENCODING),
        ({"content-encoding": ["gzip, gzip"]}, Code.CONTENT_ENCODING),
        ({"content-encoding": ["gzip", "br"]}, Code.CONTENT_ENCODING),
        ({"content-encoding": ["x-custom"]}, Code.CONTENT_ENCODING),
        ({"content-type": ["multipart/byteranges; boundary=x"], "content-length": ["1"]}, Code.HTTP_INVALID),
    ],
)
def test_refuses_what_two_readers_could_read_differently(headers: dict[str, list[str]], code: Code) -> None:
    with pytest.raises(TransferError) as refused:
        response.read_body(headers)
    assert refused.value.code is code


def test_status_in_cloudstacks_words() -> None:
    response.require_status(200)
    for status in (204, 206, 301, 401, 403, 404, 500, 503):
        with pytest.raises(TransferError) as refused:
            response.require_status(status)
        assert refused.value.message == f"HTTP Server returned {status} (expected 200 OK)"


@pytest.mark.parametrize(
    ("status", "headers", "total"),
    [
        (206, {"content-range": ["bytes 0-0/1234"]}, 1234),
        (206, {"content-range": ["bytes 0-0/*"]}, None),
        (200, {"content-length": ["77"]}, 77),
        (200, {"transfer-encoding": ["chunked"]}, None),
    ],
)
def test_total_of_a_probe(status: int, headers: dict[str, list[str]], total: int | None) -> None:
    assert response.total_of_probe(status, headers) == total


@pytest.mark.parametrize(
    "value", ["bytes 1-1/9", "bytes 0-0/", "items 0-0/9", "bytes 0-0/9, bytes 1-1/9", ""]
)
def test_wrong_content_range(value: str) -> None:
    with pytest.raises(TransferError):
        response.total_of_probe(206, {"content-range": [value]})


def test_size() -> None:
    response.require_size(None, 10)
    response.require_size(10, 10)
    for size, code in ((0, Code.LENGTH_WRONG), (11, Code.TOO_LARGE)):
        with pytest.raises(TransferError) as refused:
            response.require_size(size, 10)
        assert refused.value.code is code
