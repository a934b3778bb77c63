# SPDX-License-Identifier: Apache-2.0
"""Responses to requests with conditions and ranges, as RFC 9110 orders them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.serve.byte_ranges import ByteRange
from systemvm.ssvm.serve.response_plan import FileFacts, ResponsePlan, plan_response

MODIFIED = 1_700_000_000
DATE, EARLIER, LATER = (
    "Tue, 14 Nov 2023 22:13:20 GMT",
    "Tue, 14 Nov 2023 22:13:19 GMT",
    "Tue, 14 Nov 2023 22:13:21 GMT",
)
FILE = FileFacts("tiny.qcow2", 1000, MODIFIED, "tag")
WHOLE = (ByteRange(0, 1000),)


def plan(**headers: str) -> ResponsePlan:
    return plan_of(FILE, headers)


def plan_of(file: FileFacts, headers: dict[str, str]) -> ResponsePlan:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return plan_response(file, lambda name: named.get(name, ""), new_boundary=lambda: "b")


def test_whole_file_is_an_attachment_with_its_length_and_tag() -> None:
    found = plan()
    assert (found.code, found.segments) == (200, WHOLE)
    assert dict(found.headers) == {
        "ETag": '"tag"', "Last-Modified": DATE, "Accept-Ranges": "bytes", "Content-Length": "1000",
        "Content-Disposition": 'attachment; filename="tiny.qcow2"',
        "Content-Type": "application/octet-stream",
    }  # fmt: skip


def test_one_range_is_partial_content() -> None:
    found = plan(range="bytes=10-19")
    assert (found.code, found.segments) == (206, (ByteRange(10, 10),))
    headers = dict(found.headers)
    assert (headers["Content-Range"], headers["Content-Length"]) == ("bytes 10-19/1000", "10")


def test_several_ranges_are_a_multipart_body_of_the_announced_length() -> None:
    found = plan(range="bytes=0-1,-2")
    headers = dict(found.headers)
    assert (found.code, headers["Content-Type"]) == (206, "multipart/byteranges; boundary=b")
    assert int(headers["Content-Length"]) == found.length_bytes
    texts = [each for each in found.segments if isinstance(each, bytes)]
    assert b"Content-Range: bytes 0-1/1000\r\n\r\n" in texts[0]
    assert texts[-1] == b"\r\n--b--\r\n"


def test_range_beyond_the_end_is_refused_with_the_size() -> None:
    found = plan(range="bytes=1000-")
    assert (found.code, dict(found.headers)["Content-Range"], found.segments) == (416, "bytes */1000", ())


@pytest.mark.parametrize(
    ("if_range", "code"),
    [
        ('"tag"', 206),
        (DATE, 206),
        ('"other"', 200),
        ('W/"tag"', 200),
        (LATER, 200),
        (EARLIER, 200),
        ("?", 200),
    ],
)
def test_if_range_sends_a_part_only_of_the_same_file(if_range: str, code: int) -> None:
    assert plan(range="bytes=0-1", if_range=if_range).code == code


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("if_none_match", '"tag"', 304),
        ("if_none_match", 'W/"tag"', 304),
        ("if_none_match", '"a", "tag"', 304),
        ("if_none_match", "*", 304),
        ("if_none_match", '"other"', 200),
        ("if_match", '"tag"', 200),
        ("if_match", "*", 200),
        ("if_match", 'W/"tag"', 412),
        ("if_match", '"other"', 412),
        ("if_modified_since", DATE, 304),
        ("if_modified_since", EARLIER, 200),
        ("if_modified_since", "yesterday", 200),
        ("if_unmodified_since", EARLIER, 412),
        ("if_unmodified_since", DATE, 200),
    ],
)
def test_condition_decides(header: str, value: str, code: int) -> None:
    assert plan(**{header: value}).code == code


def test_tag_comes_before_date() -> None:
    assert plan(if_none_match='"other"', if_modified_since=DATE).code == 200
    assert plan(if_match='"tag"', if_unmodified_since=EARLIER).code == 200


def test_empty_file_has_an_empty_body() -> None:
    empty = FileFacts("empty.raw", 0, MODIFIED, "tag")
    found = plan_of(empty, {})
    assert (found.code, found.segments, dict(found.headers)["Content-Length"]) == (200, (), "0")
    assert plan_of(empty, {"range": "bytes=0-"}).code == 416


NAMES = ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]
VALUES = st.text(max_size=40) | st.sampled_from(
    [
        "bytes=0-0,-1",
        "bytes=0-,0-,5-7",
        "bytes=-5000",
        '"tag"',
        'W/"tag"',
        "*",
        DATE,
        LATER,
        f"{DATE[:-3]}+99999999999",
    ]
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.integers(0, 2000))
def test_no_request_has_more_than_the_file_sent(headers: dict[str, str], size_bytes: int) -> None:
    found = plan_of(FileFacts("tiny.qcow2", size_bytes, MODIFIED, "tag"), headers)
    assert found.code in (200, 206, 304, 412, 416)
    parts = [each for each in found.segments if isinstance(each, ByteRange)]
    assert sum(each.length for each in parts) <= size_bytes
    assert all(0 <= each.start < each.end <= size_bytes for each in parts)
    assert all(value.isprintable() for pair in found.headers for value in pair)
