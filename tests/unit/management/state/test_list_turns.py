# SPDX-License-Identifier: Apache-2.0
"""Reads of lists run round-robin by account."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.management.state.database import DatabaseClosedError
from systemvm.management.state.list_turns import (
    MAX_WAITING_OF_ACCOUNT,
    SLOW_S,
    TURN_S,
    ListReaders,
    ListTurns,
    TooManyListsError,
)


def begun(turns: ListTurns[str], now_s: float = 0.0) -> list[str]:
    found = []
    while (begin := turns.begin(now_s)) is not None:
        found.append(begin[1])
    return found


def test_an_account_leaves_a_place_to_the_others() -> None:
    turns: ListTurns[str] = ListTurns(max_running=3, max_running_of_account=2)
    for item in ("a1", "a2", "a3"):
        assert turns.add("a", item) is None
    assert begun(turns) == ["a1"]
    assert begun(turns, SLOW_S) == ["a2"]
    assert begun(turns, 2 * SLOW_S) == []
    turns.add("b", "b1")
    assert begun(turns, 2 * SLOW_S) == ["b1"]
    turns.end("b")
    assert begun(turns, 3 * SLOW_S) == []
    turns.end("a")
    assert begun(turns, 3 * SLOW_S) == ["a3"]


def test_an_account_has_a_second_turn_only_beside_a_slow_one() -> None:
    turns: ListTurns[str] = ListTurns()
    for item in ("a1", "a2"):
        turns.add("a", item)
    turns.add("b", "b1")
    assert begun(turns) == ["a1", "b1"]
    assert begun(turns, SLOW_S / 2) == []
    assert begun(turns, SLOW_S) == ["a2"]


def test_a_turn_goes_on_with_reads_of_its_account_only() -> None:
    turns: ListTurns[str] = ListTurns()
    for account, item in (("a", "a1"), ("b", "b1"), ("a", "a2")):
        turns.add(account, item)
    assert turns.begin(0.0) == ("a", "a1")
    assert [turns.more("a"), turns.more("a")] == ["a2", None]
    assert turns.begin(0.0) == ("b", "b1")


def test_accounts_take_turns_however_many_calls_one_sends() -> None:
    turns: ListTurns[str] = ListTurns(max_running=1, max_running_of_account=1)
    for number in range(5):
        turns.add("greedy", f"g{number}")
    turns.add("one", "o0")
    turns.add("other", "x0")
    order = []
    while (begin := turns.begin(0.0)) is not None:
        account, item = begin
        order.append(item)
        turns.end(account)
    assert order == ["g0", "o0", "x0", "g1", "g2", "g3", "g4"]


def test_what_one_account_too_many_asks_for_is_refused() -> None:
    turns: ListTurns[str] = ListTurns(max_waiting=4, max_waiting_of_account=3)
    assert [turns.add("greedy", f"g{number}") for number in range(4)] == [None, None, None, "g3"]
    assert turns.add("one", "o0") is None
    assert turns.add("other", "x0") == "g2"  # of the account with the most


class Threads:
    """Threads whose work a test lets begin and end."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.running: list[tuple[Deferred[None], Callable[[], None]]] = []
        self.readers = ListReaders(self._run, self.clock.callLater, self.clock.seconds)

    async def _run(self, work: Callable[[], None]) -> None:
        ended: Deferred[None] = Deferred()
        self.running.append((ended, work))
        await ended

    def start(self, work: Callable[[], object], account: str = "a") -> Deferred[object]:
        return Deferred.fromCoroutine(self.readers.run(account, work))

    def end(self) -> None:
        """Let the turn that began first do its work and end."""
        ended, work = self.running.pop(0)
        work()
        ended.callback(None)


@pytest_twisted.ensureDeferred
async def test_reads_of_an_account_follow_each_other_in_one_turn() -> None:
    threads = Threads()
    results = [threads.start(partial(abs, number)) for number in range(3)]
    of_other = threads.start(lambda: "other", "b")
    assert len(threads.running) == 2
    threads.end()
    assert [await result for result in results] == [0, 1, 2]
    assert not of_other.called
    threads.end()
    assert (await of_other, threads.running) == ("other", [])


@pytest_twisted.ensureDeferred
async def test_a_turn_ends_after_its_time_and_others_are_before_the_next_one() -> None:
    threads = Threads()

    def long() -> str:
        threads.clock.advance(TURN_S)
        return "long"

    first, second = threads.start(long), threads.start(lambda: "second")
    threads.end()
    assert (await first, second.called) == ("long", False)
    threads.end()
    assert await second == "second"


@pytest_twisted.ensureDeferred
async def test_what_was_read_before_a_slow_read_is_answered_during_it() -> None:
    threads = Threads()
    during: list[bool] = []

    def slow() -> str:
        threads.clock.advance(SLOW_S)
        during.extend((short.called, len(threads.running) == 1))  # `waiting` has a turn of its own
        return "slow"

    short = threads.start(lambda: "short")
    slow_one = threads.start(slow)
    waiting = threads.start(lambda: "waiting")
    threads.end()
    assert during == [True, True]
    assert (await short, await slow_one, waiting.called) == ("short", "slow", False)
    threads.end()
    assert await waiting == "waiting"


@pytest_twisted.ensureDeferred
async def test_a_read_that_fails_or_is_cancelled_frees_its_place() -> None:
    threads = Threads()
    ran: list[str] = []
    failing, gone = threads.start(lambda: 1 // 0), threads.start(lambda: ran.append("gone"))
    last = threads.start(lambda: "last")
    gone.addErrback(lambda _: None)
    gone.cancel()
    threads.end()
    with pytest.raises(ZeroDivisionError):
        await failing
    assert await last == "last"
    assert (ran, threads.running) == ([], [])
    again = threads.start(lambda: "again")
    threads.end()
    assert await again == "again"


@pytest_twisted.ensureDeferred
async def test_all_that_wait_fail_when_no_thread_runs_any_more() -> None:
    async def closed(_work: Callable[[], None]) -> None:
        raise DatabaseClosedError("closed")

    threads = Threads()
    last = threads.start(lambda: threads.clock.advance(TURN_S))
    waiting = [threads.start(lambda: "read") for _ in range(MAX_WAITING_OF_ACCOUNT)]
    threads.readers._in_thread = closed
    threads.end()
    await last
    for each in waiting:
        with pytest.raises(DatabaseClosedError):
            await each


@pytest_twisted.ensureDeferred
async def test_too_many_are_refused_and_the_others_are_answered() -> None:
    threads = Threads()
    threads.readers._turns = ListTurns(max_running_of_account=1, max_waiting_of_account=1)
    results = [threads.start(lambda: "read") for _ in range(3)]
    with pytest.raises(TooManyListsError):
        await results[2]
    threads.end()
    assert [await result for result in results[:2]] == ["read", "read"]
