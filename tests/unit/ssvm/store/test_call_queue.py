# SPDX-License-Identifier: Apache-2.0
"""The queue of a root helper: bounds, order, and fairness between groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.store.call_queue import CallQueue, QueuedCall, QueueLimits

LIMITS = QueueLimits(max_running=3, max_running_per_group=2, max_waiting=6, max_waiting_per_group=4)


def queue_of(*calls: tuple[str, str]) -> CallQueue[str]:
    queue: CallQueue[str] = CallQueue(LIMITS)
    for group, name in calls:
        assert queue.admit(QueuedCall(group, None, name)) is not None
    return queue


def ready(queue: CallQueue[str]) -> list[str]:
    return [call.payload for call in queue.take_ready()]


def test_a_hung_group_does_not_block_others() -> None:
    queue = queue_of(*[("hung", f"h{number}") for number in range(4)], ("works", "w0"), ("works", "w1"))
    running = list(queue.take_ready())
    assert [call.payload for call in running] == ["h0", "h1", "w0"]
    assert ready(queue) == []
    queue.ended(running[2])
    assert ready(queue) == ["w1"]
    assert queue.counts_of("hung") == (2, 2)


def test_a_full_group_does_not_block_the_queue() -> None:
    queue = queue_of(*[("hung", f"h{number}") for number in range(4)])
    assert queue.admit(QueuedCall("hung", None, "one too many")) is None
    assert queue.admit(QueuedCall("works", None, "w")) is not None


def test_the_whole_queue_is_bounded() -> None:
    queue = queue_of(*[(f"group {number}", "") for number in range(6)])
    assert queue.admit(QueuedCall("another", None, "")) is None


def test_an_expired_call_is_dropped() -> None:
    queue: CallQueue[str] = CallQueue(LIMITS)
    for name, expires_s in (("late", 5.0), ("in time", 9.0), ("patient", None)):
        queue.admit(QueuedCall("g", expires_s, name))
    assert queue.next_expiry_s == pytest.approx(5.0)
    assert [call.payload for call in queue.take_expired(5.0)] == ["late"]
    assert ready(queue) == ["in time", "patient"]
    assert queue.next_expiry_s is None


def test_a_withdrawn_call_does_not_run() -> None:
    queue: CallQueue[str] = CallQueue(LIMITS)
    ticket = queue.admit(QueuedCall("g", None, "gone"))
    queue.admit(QueuedCall("g", None, "stays"))
    assert ticket is not None
    queue.withdraw(ticket)
    queue.withdraw(ticket)  # idempotent
    assert ready(queue) == ["stays"]
    assert queue.counts_of("g") == (1, 0)


def test_calls_with_a_common_key_run_in_order_and_exclusively() -> None:
    queue: CallQueue[str] = CallQueue(QueueLimits(max_running=9, max_running_per_group=9))
    for group, name, keys in (
        ("fetch", "make", {"job 1"}), ("agent", "publish", {"job 1", "template 1"}),
        ("agent", "delete", {"template 1"}), ("agent", "other", {"job 2"}), ("agent", "read", set[str]()),
    ):  # fmt: skip
        queue.admit(QueuedCall(group, None, name, frozenset(keys)))
    first = list(queue.take_ready())
    # delete waits for publish, which shares its key
    assert [call.payload for call in first] == ["make", "other", "read"]
    queue.ended(first[0])
    [publish] = queue.take_ready()
    assert publish.payload == "publish"
    assert ready(queue) == []
    queue.ended(publish)
    assert ready(queue) == ["delete"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["admit", "ready", "end"])), max_size=60))
def test_bounds_hold_for_any_order_of_events(events: list[tuple[str, str]]) -> None:
    queue: CallQueue[str] = CallQueue(LIMITS)
    running: list[QueuedCall[str]] = []
    for group, event in events:
        if event == "admit":
            queue.admit(QueuedCall(group, None, group))
        elif event == "ready":
            running += queue.take_ready()
        elif (call := next((each for each in running if each.group == group), None)) is not None:
            running.remove(call)
            queue.ended(call)
        assert queue.running == len(running) <= LIMITS.max_running
        assert queue.waiting <= LIMITS.max_waiting
        for each in "abc":
            assert (
                queue.counts_of(each)[0]
                == [call.group for call in running].count(each)
                <= LIMITS.max_running_per_group
            )
            assert queue.counts_of(each)[1] <= LIMITS.max_waiting_per_group
