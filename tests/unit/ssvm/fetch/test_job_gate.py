# SPDX-License-Identifier: Apache-2.0
"""The limit of concurrent downloads, which follows the load of the machine."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from systemvm.ssvm.fetch.job_gate import MIN_LIMIT, OBSERVE_INTERVAL_S, JobGate


class Machine:
    """A gate with a settable slowdown that records admitted jobs."""

    def __init__(self, maximum: int = 8) -> None:
        self.clock = Clock()
        self.slowdown = 1.0
        self.gate = JobGate(self.clock, maximum, lambda: self.slowdown)
        self.entered: list[int] = []

    def enter(self, number: int) -> Deferred[None]:
        async def enter() -> None:
            await self.gate.enter()
            self.entered.append(number)

        return Deferred.fromCoroutine(enter())

    def observe(self) -> None:
        self.clock.advance(OBSERVE_INTERVAL_S)


def test_a_quick_machine_reaches_the_maximum() -> None:
    machine = Machine()
    for number in range(10):
        machine.enter(number)
    assert machine.entered == [0, 1]
    for _ in range(5):
        machine.observe()
    assert machine.entered == list(range(8))
    machine.gate.leave()
    assert machine.entered == list(range(9))


def test_a_busy_machine_runs_all_jobs_one_after_another() -> None:
    machine = Machine()
    machine.slowdown = 9.0
    for number in range(6):
        machine.enter(number)
    assert machine.entered == [0, 1]  # before the first measurement
    machine.observe()
    for done in range(1, 7):
        machine.gate.leave()
        machine.observe()
        assert len(machine.entered) == min(6, max(2, done + MIN_LIMIT))
    assert machine.entered == list(range(6))


def test_a_slow_source_does_not_block_the_others() -> None:
    machine = Machine()
    machine.slowdown = 9.0
    for number in range(3):
        machine.enter(number)
    machine.observe()
    machine.gate.leave()  # the other job continues without CPU time
    assert machine.entered == [0, 1]
    machine.slowdown = 1.0
    machine.observe()
    assert machine.entered == [0, 1, 2]


def test_a_machine_that_becomes_busy_starts_no_more() -> None:
    machine = Machine()
    for number in range(12):
        machine.enter(number)
    machine.observe()
    assert len(machine.entered) == 4
    machine.slowdown = 5.0
    machine.observe()
    machine.gate.leave()
    assert len(machine.entered) == 4  # the limit is 3 now, and 3 are at work
    machine.gate.leave()
    assert len(machine.entered) == 5


def test_a_cancelled_job_leaves_the_queue() -> None:
    machine = Machine()
    running = [machine.enter(number) for number in range(4)]
    failed: list[type[BaseException] | None] = []

    def note(failure: Failure) -> None:
        failed.append(failure.type)

    running[2].addErrback(note)
    running[2].cancel()
    assert failed == [CancelledError]
    machine.gate.leave()
    assert machine.entered == [0, 1, 3]


def test_nothing_is_measured_without_a_queue() -> None:
    machine = Machine()
    machine.enter(0)
    assert machine.clock.getDelayedCalls() == []


@pytest.mark.parametrize("maximum", [1, 2])
def test_a_lower_maximum_holds(maximum: int) -> None:
    machine = Machine(maximum)
    for number in range(4):
        machine.enter(number)
    for _ in range(3):
        machine.observe()
    assert len(machine.entered) == maximum


def test_large_jobs_leave_one_place_to_others() -> None:
    clock = Clock()
    gate = JobGate(clock, 2, lambda: 1.0)
    entered = [Deferred.fromCoroutine(gate.enter()) for _ in range(2)]
    assert all(each.called for each in entered)
    first = Deferred.fromCoroutine(gate.enter_large())
    second = Deferred.fromCoroutine(gate.enter_large())
    assert (first.result, second.called) == (False, False)
    assert not gate.is_full, "the second has left its place"
    small = Deferred.fromCoroutine(gate.enter())
    assert small.called
    gate.leave_large()
    gate.leave()
    assert second.result is True
    assert gate.is_full


def test_a_large_job_that_is_aborted_while_it_waits_gives_its_place_back() -> None:
    gate = JobGate(Clock(), 2, lambda: 1.0)
    for _ in range(2):
        Deferred.fromCoroutine(gate.enter())
    Deferred.fromCoroutine(gate.enter_large())
    waiting = Deferred.fromCoroutine(gate.enter_large())
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    gate.leave_large()  # as the transfer does in any case
    gate.leave()
    gate.leave_large()
    gate.leave()
    assert [Deferred.fromCoroutine(gate.enter()).called for _ in range(3)] == [True, True, False]
