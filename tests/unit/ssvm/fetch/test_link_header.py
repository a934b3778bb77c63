# SPDX-License-Identifier: Apache-2.0
"""Mirrors that a server names in its response."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.fetch.link_header import MAX_LINKS, duplicates


@pytest.mark.parametrize(
    ("values", "hosts"),
    [
        ([], []),
        (["<http://a.test/x>; rel=duplicate"], ["a.test"]),
        (
            ['<http://a.test/x>; rel="duplicate"; geo=de', "<https://b.test/x>; rel=duplicate; pri=1"],
            ["b.test", "a.test"],
        ),
        (
            ["<http://a.test/x,y>; pri=5; rel=duplicate, <http://b.test/x>; rel=duplicate; pri=4"],
            ["b.test", "a.test"],
        ),
        (["<http://a.test/x.meta4>; rel=describedby; type=application/metalink4+xml"], []),
        (["<ftp://a.test/x>; rel=duplicate, <http://127.1/x>; rel=duplicate, </x>; rel=duplicate"], []),
        (["<http://a.test/x>; rel=duplicate, <http://a.test/x>; rel=duplicate"], ["a.test"]),
        (["<http://a.test/x>; rel=duplicate; pri=-1"], ["a.test"]),
        (["http://a.test/x; rel=duplicate", "<http://a.test/x"], []),
    ],
)
def test_duplicates_are_mirrors_in_their_order(values: list[str], hosts: list[str]) -> None:
    assert [url.host for url in duplicates({"link": values})] == hosts


def test_links_are_bounded() -> None:
    many = ", ".join(f"<http://m{number}.test/x>; rel=duplicate" for number in range(1000))
    assert len(duplicates({"link": [many]})) == MAX_LINKS


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_header_is_a_list_of_mirrors(values: list[str]) -> None:
    assert isinstance(duplicates({"link": values}), tuple)
