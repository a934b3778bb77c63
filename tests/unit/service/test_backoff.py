# SPDX-License-Identifier: Apache-2.0
"""Backoff: growth, jitter, bounds and resets."""

from __future__ import annotations

from twisted.internet.task import Clock

from systemvm.service.backoff import Backoff, KeyedBackoff


def test_waits_double_between_half_a_second_and_8_s() -> None:
    shortest = Backoff(uniform=lambda low, high: low)
    longest = Backoff(uniform=lambda low, high: high)
    assert [shortest.next_s() for _ in range(8)] == [0.5, 1, 2, 4, 4, 4, 4, 4]
    assert [longest.next_s() for _ in range(8)] == [1, 2, 4, 8, 8, 8, 8, 8]


def test_two_agents_wait_differently() -> None:
    one, two = Backoff(), Backoff()
    assert [one.next_s() for _ in range(6)] != [two.next_s() for _ in range(6)]


def test_reset_returns_to_the_shortest_wait() -> None:
    backoff = Backoff()
    for _ in range(9):
        backoff.next_s()
    backoff.reset()
    assert 0.5 <= backoff.next_s() <= 1


def test_a_bound_stops_the_growth_until_it_is_lifted() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    assert [backoff.next_s(at_most_s=2.0) for _ in range(4)] == [1.0, 2.0, 2.0, 2.0]
    assert [backoff.next_s() for _ in range(2)] == [4.0, 8.0]


def test_2000_failures_of_a_key_wait_the_longest() -> None:
    backoff = KeyedBackoff[str](Clock().seconds, first_s=1.0, last_s=60.0)
    assert [backoff.failed("key") for _ in range(2000)][-1] == 60.0


def test_waits_of_a_key_double_up_to_the_longest_and_expire() -> None:
    clock = Clock()
    backoff = KeyedBackoff[str](
        clock.seconds, first_s=10, last_s=60, jitter=0.5, uniform=lambda low, high: low
    )
    assert [backoff.failed("a") for _ in range(5)] == [5, 10, 20, 30, 30]
    assert (backoff.due_in_s("a"), backoff.due_in_s("b"), backoff.waiting()) == (30, 0, ["a"])
    clock.advance(30)
    assert (backoff.due_in_s("a"), backoff.waiting()) == (0, [])
    clock.advance(61)
    backoff.forget_old()
    assert backoff.failed("a") == 5
    backoff.succeeded("a")
    assert backoff.due_in_s("a") == 0
