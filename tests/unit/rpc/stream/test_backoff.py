# SPDX-License-Identifier: Apache-2.0
"""Waits grow to eight seconds, differ between agents, and begin anew after success."""

from __future__ import annotations

from systemvm.rpc.stream.backoff import Backoff


def test_waits_double_between_half_a_second_and_8_s() -> None:
    shortest = Backoff(uniform=lambda low, high: low)
    longest = Backoff(uniform=lambda low, high: high)
    assert [shortest.next_s() for _ in range(8)] == [0.5, 1, 2, 4, 4, 4, 4, 4]
    assert [longest.next_s() for _ in range(8)] == [1, 2, 4, 8, 8, 8, 8, 8]


def test_two_agents_do_not_wait_alike() -> None:
    one, two = Backoff(), Backoff()
    assert [one.next_s() for _ in range(6)] != [two.next_s() for _ in range(6)]


def test_reset_begins_anew() -> None:
    backoff = Backoff()
    for _ in range(9):
        backoff.next_s()
    backoff.reset()
    assert 0.5 <= backoff.next_s() <= 1


def test_a_bound_holds_the_growth_back_until_it_is_lifted() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    assert [backoff.next_s(at_most_s=2.0) for _ in range(4)] == [1.0, 2.0, 2.0, 2.0]
    assert [backoff.next_s() for _ in range(2)] == [4.0, 8.0]
