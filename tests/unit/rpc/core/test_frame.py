# SPDX-License-Identifier: Apache-2.0
"""Frames: splitting of a stream into lines, limits, and JSON decoding."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemvm.rpc.core import frame
from systemvm.rpc.core.errors import PARSE_ERROR, RpcError

LINES = st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\ab', max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(LINES, st.binary(max_size=20).filter(lambda tail: b"\n" not in tail), st.data())
def test_lines_do_not_depend_on_the_pieces_of_the_stream(
    lines: list[bytes], tail: bytes, data: st.DataObject
) -> None:
    stream = b"".join(line + b"\n" for line in lines) + tail
    splitter = frame.LineSplitter(limit_bytes=64)
    received: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += splitter.feed(stream[:size])
        stream = stream[size:]
    assert received == lines
    assert len(splitter) == len(tail)


@given(st.integers(1, 50), st.integers(1, 200))
def test_the_buffer_never_exceeds_the_limit(limit: int, chunk: int) -> None:
    splitter = frame.LineSplitter(limit_bytes=limit)
    with pytest.raises(frame.LineTooLong):
        for _ in range(limit // chunk + 2):
            list(splitter.feed(b"x" * chunk))
            assert len(splitter) <= limit
    assert len(splitter) == 0


def test_a_line_of_the_maximum_length_is_accepted_and_a_longer_one_refused() -> None:
    assert list(frame.LineSplitter(8).feed(b"12345678\n")) == [b"12345678"]
    with pytest.raises(frame.LineTooLong):
        list(frame.LineSplitter(8).feed(b"123456789\n"))


def test_lines_before_the_long_one_are_delivered() -> None:
    splitter = frame.LineSplitter(4)
    received = []
    with pytest.raises(frame.LineTooLong):
        for line in splitter.feed(b"ok\n" + b"x" * 9):
            received.append(line)
    assert received == [b"ok"]


@given(JSON)
@settings(max_examples=200)
def test_encode_and_decode_are_inverse(value: object) -> None:
    line = frame.encode(value)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert frame.decode(line[:-1]) == value


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@given(JSON, st.integers(0, 6))
@settings(max_examples=300)
def test_depth_is_that_of_the_parsed_value(value: object, limit: int) -> None:
    assert frame.within_depth(json.dumps(value).encode(), limit) == (_depth(value) <= limit)


@pytest.mark.parametrize("opening,closing", [("[", "]"), ('{"a":', "}")])
def test_nesting_of_32_is_accepted_and_33_refused(opening: str, closing: str) -> None:
    frame.decode((opening * 32 + "1" + closing * 32).encode())
    with pytest.raises(RpcError, match="parse error"):
        frame.decode((opening * 33 + "1" + closing * 33).encode())


def test_many_brackets_side_by_side_or_inside_strings_are_not_deep() -> None:
    frame.decode(b"[" + b",".join([b"[]"] * 5000) + b"]")
    frame.decode(json.dumps(["[" * 5000, '\\"[' * 100]).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"nonsense",
        b'"\xff"',
        b'{"skipped": "\xc3\x28"}',
        b"\xef\xbb\xbf{}",
        b"NaN",
        b'{"a": 1e999}',
        b'{"a": Infinity}',
        b"{} {}",
        b'"\\ud800"',
        b"[" * 100_000,
        b"\x00",
        b"]" * 40,
    ],
)
def test_text_that_is_not_json_is_a_parse_error(line: bytes) -> None:
    with pytest.raises(RpcError) as caught:
        frame.decode(line)
    assert caught.value.code == PARSE_ERROR
    assert caught.value.hint


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_a_parse_error(line: bytes) -> None:
    try:
        frame.decode(line)
    except RpcError as error:
        assert error.code == PARSE_ERROR


def test_messages_that_the_other_end_would_reject_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="page it"):
        frame.encode("x" * frame.MAX_LINE_BYTES)
    deep: list[object] = []
    for _ in range(32):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper"):
        frame.encode(deep)
