# SPDX-License-Identifier: Apache-2.0
"""Validation of HTTP responses: status, body, size, validators and ranges."""

from __future__ import annotations

import contextlib

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm import http_response
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_response import Body, ResumePoint
from systemvm.wire.transfer_failure import TransferFailure


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
def test_the_body_is_described_by_its_headers(headers: dict[str, list[str]], body: Body) -> None:
    assert http_response.read_body(headers) == body


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-length": ["12", "13"]}, TransferFailure.HTTP_INVALID),
        ({"content-length": ["+12"]}, TransferFailure.HTTP_INVALID),
        ({"content-length": ["1_2"]}, TransferFailure.HTTP_INVALID),
        ({"content-length": ["-1"]}, TransferFailure.HTTP_INVALID),
        ({"content-length": ["9" * 30]}, TransferFailure.HTTP_INVALID),
        ({"content-length": ["12"], "transfer-encoding": ["chunked"]}, TransferFailure.HTTP_INVALID),
        ({"transfer-encoding": ["gzip, chunked"]}, TransferFailure.HTTP_INVALID),
        ({"content-encoding": ["br"], "content-length": ["12"]}, TransferFailure.CONTENT_ENCODING),
        ({"content-encoding": ["gzip, gzip"]}, TransferFailure.CONTENT_ENCODING),
        ({"content-encoding": ["gzip", "br"]}, TransferFailure.CONTENT_ENCODING),
        ({"content-encoding": ["x-custom"]}, TransferFailure.CONTENT_ENCODING),
        (
            {"content-type": ["multipart/byteranges; boundary=x"], "content-length": ["1"]},
            TransferFailure.HTTP_INVALID,
        ),
    ],
)
def test_ambiguous_headers_are_rejected(headers: dict[str, list[str]], code: TransferFailure) -> None:
    with pytest.raises(TransferError) as refused:
        http_response.read_body(headers)
    assert refused.value.code is code


def test_an_unexpected_status_has_the_message_of_cloudstack() -> None:
    http_response.require_status(200)
    for status in (204, 206, 301, 401, 403, 404, 408, 429, 500, 501, 503):
        with pytest.raises(TransferError) as refused:
            http_response.require_status(status)
        assert refused.value.message == f"HTTP Server returned {status} (expected 200 OK)"
        is_retryable = status in (408, 429, 500, 503)
        assert refused.value.code is (
            TransferFailure.HTTP_UNAVAILABLE if is_retryable else TransferFailure.HTTP_STATUS
        )


@pytest.mark.parametrize(
    ("status", "headers", "total"),
    [
        (206, {"content-range": ["bytes 0-0/1234"]}, 1234),
        (206, {"content-range": ["bytes 0-0/*"]}, None),
        (200, {"content-length": ["77"]}, 77),
        (200, {"transfer-encoding": ["chunked"]}, None),
    ],
)
def test_the_total_size_is_read_from_a_probe(
    status: int, headers: dict[str, list[str]], total: int | None
) -> None:
    assert http_response.total_of_probe(status, headers) == total


@pytest.mark.parametrize(
    "value", ["bytes 1-1/9", "bytes 0-0/", "items 0-0/9", "bytes 0-0/9, bytes 1-1/9", ""]
)
def test_an_invalid_content_range_is_rejected(value: str) -> None:
    with pytest.raises(TransferError):
        http_response.total_of_probe(206, {"content-range": [value]})


def test_an_empty_or_too_large_source_is_rejected() -> None:
    http_response.require_size(None, 10)
    http_response.require_size(10, 10)
    for size, code in ((0, TransferFailure.LENGTH_WRONG), (11, TransferFailure.TOO_LARGE)):
        with pytest.raises(TransferError) as refused:
            http_response.require_size(size, 10)
        assert refused.value.code is code


OLD, NEW = "Sat, 01 Nov 2025 10:00:00 GMT", "Sat, 28 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": ['"one"'], "last-modified": [OLD], "date": [NEW]}, '"one"'),
        ({"etag": ['W/"one"'], "last-modified": [OLD], "date": [NEW]}, OLD),
        ({"etag": ['W/"one"']}, None),
        ({"etag": ["one"]}, None),
        ({"etag": ['"one"', '"two"']}, None),
        ({"last-modified": [OLD]}, None),
        ({"last-modified": [NEW], "date": [NEW]}, None),  # it can change again within this second
        ({"last-modified": ["yesterday"], "date": [NEW]}, None),
        ({"last-modified": [f"{OLD[:-3]}+9999999999999999"], "date": [NEW]}, None),
        ({"last-modified": [OLD.replace("2025", "9" * 20)], "date": [NEW]}, None),
        ({"last-modified": [OLD], "date": [f"{NEW[:-3]}-0000"]}, OLD),
        ({}, None),
    ],
)
def test_only_a_strong_validator_identifies_the_rest(
    headers: dict[str, list[str]], validator: str | None
) -> None:
    assert http_response.read_validator(headers) == validator


POINT = ResumePoint(100, '"one"', 300, None)
REST = {"content-range": ["bytes 100-299/300"], "content-length": ["200"], "etag": ['"one"']}


def test_the_rest_of_a_file_is_accepted() -> None:
    assert http_response.require_rest(206, REST, POINT) == Body(200, False)
    chunked = {name: REST[name] for name in ("content-range", "etag")} | {"transfer-encoding": ["chunked"]}
    assert http_response.require_rest(206, chunked, POINT) == Body(None, True)
    unknown = ResumePoint(100, OLD, None, None)
    assert http_response.require_rest(206, REST, unknown) == Body(200, False)


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (200, {"etag": ['"two"']}), (412, {}), (416, {}),
        (206, {"content-range": ["bytes 99-299/300"]}),
        (206, {"content-range": ["bytes 100-298/300"]}),
        (206, {"content-range": ["bytes 100-299/301"]}),
        (206, {"content-range": ["bytes 100-300/301"]}),
        (206, {"content-range": ["bytes 100-299/*"]}),
        (206, {"content-range": []}),
        (206, {"content-range": ["bytes 100-299/300", "bytes 0-1/300"]}),
        (206, {"etag": ['"two"']}),
        (206, {"etag": []}),
        (206, {"content-length": ["199"]}),
        (206, {"content-encoding": ["gzip"]}),
    ],
)  # fmt: skip
def test_a_response_that_is_not_the_rest_is_another_file(status: int, changes: dict[str, list[str]]) -> None:
    with pytest.raises(TransferError) as refused:
        http_response.require_rest(status, REST | changes, POINT)
    assert refused.value.code is TransferFailure.SOURCE_CHANGED


BY_DATE = REST | {"etag": []}


def test_the_rest_of_a_file_that_has_another_date_is_another_file() -> None:
    """A server that does not honour If-Range would have the mover join the halves of two files."""
    point = evolve(POINT, validator=OLD)
    for changes in ({}, {"last-modified": [OLD]}):
        assert http_response.require_rest(206, BY_DATE | changes, point) == Body(200, False)
    for status in (200, 206):
        with pytest.raises(TransferError) as refused:
            http_response.require_rest(status, BY_DATE | {"last-modified": [NEW]}, point)
        assert refused.value.code is TransferFailure.SOURCE_CHANGED
    with pytest.raises(TransferError) as refused:
        http_response.require_part(206, PART | {"etag": [], "last-modified": [NEW]}, point, 100, 200)
    assert refused.value.code is TransferFailure.SOURCE_CHANGED


def test_without_if_range_the_date_must_be_there() -> None:
    point = evolve(POINT, validator=OLD)
    with pytest.raises(http_response.IfRangeIgnoredError):
        http_response.require_rest(200, BY_DATE | {"last-modified": [OLD]}, point)
    plain = evolve(point, is_plain=True)
    assert http_response.require_rest(206, BY_DATE | {"last-modified": [OLD]}, plain) == Body(200, False)
    with pytest.raises(TransferError) as refused:
        http_response.require_rest(206, BY_DATE, plain)
    assert refused.value.code is TransferFailure.SOURCE_CHANGED


def test_a_partial_response_of_unknown_size_is_reported_as_a_part() -> None:
    unknown = ResumePoint(100, OLD, None, None)
    with pytest.raises(TransferError, match="a different part"):
        http_response.require_rest(206, REST | {"content-range": ["bytes 100-298/300"]}, unknown)


@pytest.mark.parametrize(
    ("status", "code"), [(503, TransferFailure.HTTP_UNAVAILABLE), (404, TransferFailure.HTTP_STATUS)]
)
def test_a_refusal_of_the_rest_keeps_its_reason(status: int, code: TransferFailure) -> None:
    with pytest.raises(TransferError) as refused:
        http_response.require_rest(status, {}, POINT)
    assert refused.value.code is code


def test_the_whole_of_the_same_file_means_that_if_range_is_not_honoured() -> None:
    with pytest.raises(http_response.IfRangeIgnoredError):
        http_response.require_rest(200, REST, POINT)
    with pytest.raises(TransferError) as refused:
        http_response.require_rest(200, REST, evolve(POINT, is_plain=True))
    assert refused.value.code is TransferFailure.SOURCE_CHANGED


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": ["7"]}, 7.0),
        ({"retry-after": ["soon"]}, None),
        ({"retry-after": ["1", "2"]}, None),
        ({"retry-after": [f"{NEW[:-3]}+9999999999999999"], "date": [NEW]}, None),
        ({"retry-after": ["Sat, 28 Nov 2026 10:01:00 GMT"]}, None),
        (
            {"retry-after": ["Sat, 28 Nov 2026 10:01:00 GMT"], "date": ["Sat, 28 Nov 2026 10:00:00 GMT"]},
            60.0,
        ),
        (
            {"retry-after": ["Sat, 28 Nov 2026 09:00:00 GMT"], "date": ["Sat, 28 Nov 2026 10:00:00 GMT"]},
            0.0,
        ),
    ],
)
def test_reads_how_long_a_server_wants_to_be_left_alone(
    headers: dict[str, list[str]], seconds: float | None
) -> None:
    with pytest.raises(TransferError) as busy:
        http_response.require_status(503, headers=headers)
    assert busy.value.retry_after_s == seconds


PART = REST | {"content-range": ["bytes 100-199/300"], "content-length": ["100"]}


def test_a_part_is_exactly_what_was_requested() -> None:
    http_response.require_part(206, PART, POINT, 100, 200)


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (200, {}), (412, {}), (416, {}),
        (206, {"content-range": ["bytes 100-198/300"]}),
        (206, {"content-range": ["bytes 101-199/300"]}),
        (206, {"content-range": ["bytes 100-199/301"]}),
        (206, {"content-range": ["bytes 100-199/*"]}),
        (206, {"content-range": []}),
        (206, {"etag": ['"two"']}),
        (206, {"etag": []}),
        (206, {"content-length": ["99"]}),
        (206, {"content-encoding": ["gzip"]}),
    ],
)  # fmt: skip
def test_another_part_or_file_is_not_used(status: int, changes: dict[str, list[str]]) -> None:
    with pytest.raises(TransferError) as refused:
        http_response.require_part(status, PART | changes, POINT, 100, 200)
    assert refused.value.code is TransferFailure.SOURCE_CHANGED


def test_a_busy_server_says_so_for_a_part_too() -> None:
    with pytest.raises(TransferError) as busy:
        http_response.require_part(429, {"retry-after": ["5"]}, POINT, 100, 200)
    assert (busy.value.code, busy.value.retry_after_s) == (TransferFailure.HTTP_UNAVAILABLE, 5.0)


FIELDS = ["content-length", "content-range", "content-encoding", "transfer-encoding", "etag", "last-modified",
          "date", "retry-after"]  # fmt: skip
FIELD_VALUES = st.text(max_size=30) | st.sampled_from(
    [
        "200",
        "bytes 100-299/300",
        "bytes 100-199/300",
        "gzip",
        "chunked",
        '"one"',
        OLD,
        NEW,
        f"{NEW[:-3]}-9999999999",
    ]
)


@given(
    st.sampled_from([200, 206, 302, 404, 412, 416, 429, 503]),
    st.dictionaries(st.sampled_from(FIELDS), st.lists(FIELD_VALUES, min_size=1, max_size=2)),
    st.sampled_from(['"one"', OLD, None]),
)
def test_any_head_is_read_or_a_reason(
    status: int, headers: dict[str, list[str]], validator: str | None
) -> None:
    point = evolve(POINT, validator=validator)
    for read in (
        lambda: http_response.read_body(headers),
        lambda: http_response.total_of_probe(status, headers),
        lambda: http_response.require_status(status, headers=headers),
        lambda: http_response.require_part(status, headers, point, 100, 200),
    ):
        with contextlib.suppress(TransferError):
            read()
    http_response.read_validator(headers)
    with contextlib.suppress(TransferError):
        http_response.require_rest(status, headers, point)
        assert status == 206
        if validator == '"one"':
            assert headers["etag"] == ['"one"']
