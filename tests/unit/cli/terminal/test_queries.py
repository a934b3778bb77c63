# SPDX-License-Identifier: Apache-2.0
"""Queries in a terminal's output: removed when they are not this terminal's, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cli.terminal.queries import QueryFilter

QUERIES = [
    b"\x05",
    b"\x1b[6n",
    b"\x1b[?6n",
    b"\x1b[c",
    b"\x1b[0c",
    b"\x1b[>c",
    b"\x1b[=0c",
    b"\x1b[>0q",
    b"\x1b[?2004$p",
    b"\x1b[18t",
    b"\x1bP$qm\x1b\\",
    b"\x1bP+q544e\x1b\\",
    b"\x1b]10;?\x07",
    b"\x1b]4;1;?\x1b\\",
]
KEPT = [
    b"text ",
    b"\x1b[1;31m",
    b"\x1b[2J",
    b"\x1b[?25l",
    b"\x1b]0;title\x07",
    b"\x1b]10;#ffffff\x07",
    "ü".encode(),
]


def filtered(pieces: list[bytes], *, is_on: bool = True) -> bytes:
    queries = QueryFilter()
    queries.is_on = is_on
    return b"".join(queries.feed(piece) for piece in pieces)


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_is_removed(query: bytes) -> None:
    assert filtered([b"a" + query + b"b"]) == b"ab"
    assert filtered([b"a" + query + b"b"], is_on=False) == b"a" + query + b"b"


@given(st.lists(st.sampled_from(QUERIES + KEPT)), st.lists(st.integers(0, 200)))
def test_pieces_of_any_size_show_the_same(parts: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(parts) + b"."
    ends = sorted({min(cut, len(whole)) for cut in cuts} | {len(whole)})
    pieces = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert filtered(pieces) == b"".join(part for part in parts if part in KEPT) + b"."


def test_a_sequence_without_an_end_is_shown() -> None:
    assert filtered([b"\x1b]0;" + b"x" * 300]) == b"\x1b]0;" + b"x" * 300


def test_what_was_held_is_shown_when_queries_are_answered_again() -> None:
    queries = QueryFilter()
    queries.is_on = True
    assert queries.feed(b"a\x1b[") == b"a"
    queries.is_on = False
    assert queries.feed(b"6n") == b"\x1b[6n"
