# SPDX-License-Identifier: Apache-2.0
"""Parts of a file that come in any order leave in order, each byte once, within the window."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.mover.range_plan import RangePlan, Segment


@given(st.randoms(use_true_random=True))
def test_parts_in_any_order_make_the_file(chance: random.Random) -> None:
    """Connections receive, break off and are replaced as they like."""
    size = chance.randint(0, 400)
    start = chance.randint(0, size)
    file = bytes(index % 251 for index in range(size))
    window = chance.randint(20, 100)
    plan = RangePlan(start, size, segment_bytes=chance.randint(1, 20), window_bytes=window)
    owned: list[Segment] = []
    taken = b""
    while not plan.is_done:
        action = chance.choice(["assign", "put", "put", "give back", "take"])
        if action == "assign":
            segment = plan.assign()
            if segment is not None:
                assert segment not in owned, "two connections receive the same part"
                owned.append(segment)
        elif action == "take":
            taken += plan.take(chance.randint(1, 50))
        elif owned:
            segment = chance.choice(owned)
            if action == "put":
                count = chance.randint(1, 20)
                end = min(segment.end, segment.position + count)
                plan.put(segment, file[segment.position : end])
            if action == "give back" or segment.is_complete:
                plan.give_back(segment)
                owned.remove(segment)
        else:
            taken += plan.take(50)
        assert plan.waiting_bytes <= window
        assert plan.frontier == start + len(taken)
    assert taken == file[start:]


def test_the_first_missing_part_is_requested_first() -> None:
    plan = RangePlan(0, 100, segment_bytes=10, window_bytes=40)
    first, second = plan.assign(), plan.assign()
    assert first is not None
    assert second is not None
    plan.put(first, b"x" * 4)
    plan.give_back(first)
    again = plan.assign()
    assert again is first
    assert (again.position, again.end) == (4, 10)


def test_nothing_is_requested_beyond_the_window() -> None:
    plan = RangePlan(0, 100, segment_bytes=10, window_bytes=25)
    assert [plan.assign() is not None for _ in range(3)] == [True, True, False]


def test_a_plan_that_ends_here_is_done_with_what_was_assigned() -> None:
    plan = RangePlan(0, 100, segment_bytes=10, window_bytes=40)
    segment = plan.assign()
    assert segment is not None
    plan.end_here()
    assert plan.assign() is None
    plan.put(segment, bytes(10))
    assert plan.take(100) == bytes(10)
    assert plan.is_done


def test_more_bytes_than_were_requested_are_refused() -> None:
    plan = RangePlan(0, 100, segment_bytes=10, window_bytes=40)
    segment = plan.assign()
    assert segment is not None
    with pytest.raises(ValueError, match="more bytes"):
        plan.put(segment, bytes(11))
