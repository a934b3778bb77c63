# SPDX-License-Identifier: Apache-2.0
"""Single-flight runs and periodic work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from systemvm.service.periodic import Periodic
from systemvm.service.single_flight import SingleFlight


def outcomes(deferreds: list[Deferred[Any]]) -> list[Any]:
    found: list[Any] = []
    for deferred in deferreds:
        deferred.addBoth(found.append)
    return found


def joined(flight: SingleFlight[str], work: Callable[[], Any], count: int) -> list[Deferred[Any]]:
    return [Deferred.fromCoroutine(flight.run("key", work)) for _ in range(count)]


def test_a_cancelled_wait_for_the_end_does_not_continue() -> None:
    flight = SingleFlight[str]()
    running: Deferred[int] = Deferred()
    continued: list[str] = []

    async def wait_and_continue() -> None:
        await flight.wait_until_ended("key")
        continued.append("ended")

    [work] = joined(flight, lambda: running, 1)
    waits = Deferred.fromCoroutine(wait_and_continue())
    waits.cancel()
    [cancelled] = outcomes([waits])
    assert isinstance(cancelled.value, CancelledError)
    running.errback(RuntimeError("failed"))
    [failed] = outcomes([work])
    assert isinstance(failed.value, RuntimeError)
    assert continued == []


def test_all_callers_get_the_result_of_one_run() -> None:
    flight, begun = SingleFlight[str](), []
    running: Deferred[int] = Deferred()

    async def work() -> int:
        begun.append(1)
        return await running

    found = outcomes(joined(flight, work, 5))
    assert ("key" in flight, begun) == (True, [1])
    running.callback(7)
    assert (found, "key" in flight) == ([7] * 5, False)


def test_all_callers_get_the_failure_and_the_next_one_starts_again() -> None:
    flight, running = SingleFlight[str](), [Deferred[int](), Deferred[int]()]
    begun: list[int] = []

    async def work() -> int:
        begun.append(1)
        return await running[len(begun) - 1]

    found = outcomes(joined(flight, work, 3))
    running[0].errback(ValueError("no"))
    assert [failure.value.args for failure in found] == [("no",)] * 3
    again = outcomes(joined(flight, work, 1))
    running[1].callback(1)
    assert (again, len(begun)) == ([1], 2)


def test_work_that_raises_before_it_waits_is_a_failure_too() -> None:
    flight = SingleFlight[str]()

    def broken() -> Any:
        raise ValueError("at once")

    [failure] = outcomes(joined(flight, broken, 1))
    assert failure.check(ValueError)
    assert "key" not in flight


def test_a_cancelled_caller_does_not_end_the_work() -> None:
    flight = SingleFlight[str]()
    running: Deferred[int] = Deferred()

    async def work() -> int:
        return await running

    first, second = joined(flight, work, 2)
    found = outcomes([first, second])
    first.cancel()
    assert found[0].check(CancelledError)
    assert not running.called
    running.callback(3)
    assert found[1:] == [3]


def test_start_is_refused_during_a_run_whose_end_can_be_awaited() -> None:
    flight = SingleFlight[str]()
    running: Deferred[None] = Deferred()

    async def work() -> None:
        await running

    assert [flight.start("key", work) for _ in range(2)] == [True, False]
    ended = Deferred.fromCoroutine(flight.wait_until_ended("key"))
    assert not ended.called
    running.errback(ValueError("awaited"))
    assert ended.called


def test_a_failure_without_a_caller_is_logged() -> None:
    flight = SingleFlight[str]()
    running: Deferred[None] = Deferred()

    async def work() -> None:
        await running

    with capturedLogs() as logged:
        flight.start("key", work)
        running.errback(ValueError("no caller"))
    assert [event["log_failure"].value.args for event in logged] == [("no caller",)]


class Work:
    def __init__(self) -> None:
        self.runs: list[Deferred[None]] = []

    async def run(self) -> None:
        self.runs.append(Deferred())
        await self.runs[-1]


def periodic(clock: Clock, work: Work) -> Periodic:
    return Periodic(clock, work.run, 10.0, what="the work", uniform=lambda low, high: high)


def test_a_late_run_is_not_started_again() -> None:
    clock, work = Clock(), Work()
    every = periodic(clock, work)
    every.start(now=True)
    clock.pump([10.0] * 20)
    assert len(work.runs) == 1
    for _ in range(5):
        every.run_soon()
    work.runs[0].callback(None)
    assert len(work.runs) == 2, "one more run for all requests meanwhile"
    work.runs[1].callback(None)
    clock.advance(9.9)
    assert len(work.runs) == 2
    clock.advance(0.2)
    assert len(work.runs) == 3
    every.stop()
    work.runs[2].callback(None)
    clock.advance(100)
    assert len(work.runs) == 3
    assert clock.getDelayedCalls() == []


def test_failures_lengthen_the_interval_until_a_success() -> None:
    clock, work = Clock(), Work()
    every = periodic(clock, work)
    every.start(now=False)
    gaps_s = []
    for _ in range(5):
        before_s, before = clock.seconds(), len(work.runs)
        while len(work.runs) == before:
            clock.advance(1)
        gaps_s.append(clock.seconds() - before_s)
        work.runs[-1].errback(ValueError("not now"))
    assert gaps_s == [10, 20, 40, 80, 80]
    clock.advance(80)
    work.runs[-1].callback(None)
    clock.advance(10)
    assert len(work.runs) == 7
    every.stop()
