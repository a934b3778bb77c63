# SPDX-License-Identifier: Apache-2.0
"""Reads of lists run round-robin by account."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from systemvm.management.state.list_turns import ListReaders, ListTurns, TooManyListsError


def begun(turns: ListTurns[str]) -> list[str]:
    found = []
    while (begin := turns.begin()) is not None:
        found.append(begin[1])
    return found


def test_an_account_leaves_a_place_to_the_others() -> None:
    turns: ListTurns[str] = ListTurns(max_running=3, max_running_of_account=2)
    for item in ("a1", "a2", "a3"):
        assert turns.add("a", item) is None
    assert begun(turns) == ["a1", "a2"]
    turns.add("b", "b1")
    assert begun(turns) == ["b1"]
    turns.end("b")
    assert begun(turns) == []
    turns.end("a")
    assert begun(turns) == ["a3"]


def test_accounts_take_turns_however_many_calls_one_sends() -> None:
    turns: ListTurns[str] = ListTurns(max_running=1, max_running_of_account=1)
    for number in range(5):
        turns.add("greedy", f"g{number}")
    turns.add("one", "o0")
    turns.add("other", "x0")
    order = []
    while (begin := turns.begin()) is not None:
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
    """Work that a test lets end."""

    def __init__(self) -> None:
        self.running: list[tuple[Deferred[object], Callable[[], object]]] = []

    async def run(self, work: Callable[[], object]) -> object:
        ended: Deferred[object] = Deferred()
        self.running.append((ended, work))
        return await ended

    def end(self) -> None:
        ended, work = self.running.pop(0)
        try:
            ended.callback(work())
        except ZeroDivisionError as error:
            ended.errback(error)


@pytest_twisted.ensureDeferred
async def test_a_read_that_fails_or_is_cancelled_frees_its_place() -> None:
    threads = Threads()
    readers = ListReaders(threads.run)

    def start(work: Callable[[], object]) -> Deferred[object]:
        return Deferred.fromCoroutine(readers.run("a", work))

    failing, slow = start(lambda: 1 // 0), start(lambda: "slow")
    gone, last = start(lambda: "gone"), start(lambda: "last")
    assert len(threads.running) == 2
    gone.addErrback(lambda _: None)
    gone.cancel()
    threads.end()
    with pytest.raises(ZeroDivisionError):
        await failing
    assert len(threads.running) == 2  # `slow` and `last`
    threads.end()
    threads.end()
    assert (await slow, await last) == ("slow", "last")


@pytest_twisted.ensureDeferred
async def test_too_many_are_refused_and_the_others_are_answered() -> None:
    threads = Threads()
    readers = ListReaders(threads.run)
    readers._turns = ListTurns(max_running_of_account=1, max_waiting_of_account=1)
    results = [Deferred.fromCoroutine(readers.run("a", lambda: "read")) for _ in range(3)]
    with pytest.raises(TooManyListsError):
        await results[2]
    threads.end()
    threads.end()
    assert [await result for result in results[:2]] == ["read", "read"]
