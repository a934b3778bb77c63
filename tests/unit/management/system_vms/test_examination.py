# SPDX-License-Identifier: Apache-2.0
"""An examination tells what it has while it goes on, and there is one per VM."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.management.control.agent import AgentStatus
from systemvm.management.state.status import AgentState
from systemvm.management.system_vms.diagnosis_runner import KEPT_S, Examination, Examinations, Finding

BUSY = AgentStatus(AgentState.ALERT, "is busy")


class _Slow:
    """An examination that goes on when a test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.step: Deferred[None] = Deferred()

    async def examine(self, examination: Examination) -> Finding:
        self.begun += 1
        examination.note("hypervisor", "running")
        examination.pending = "its guest agent"
        await self.step
        examination.note("guest agent", "does not answer")
        return examination.conclude(BUSY)


def _wait(examination: Examination, clock: Clock, timeout_s: float) -> list[bool]:
    ended: list[bool] = []
    Deferred.fromCoroutine(examination.wait(clock, timeout_s)).addCallback(lambda _: ended.append(True))
    return ended


def test_a_caller_gets_the_first_results_in_time_and_the_rest_by_asking_again() -> None:
    clock, slow = Clock(), _Slow()
    examinations = Examinations(clock)
    first = examinations.join("s-1-VM", slow.examine)
    ended = _wait(first, clock, 6.0)
    clock.advance(5.9)
    assert not ended
    clock.advance(0.1)
    assert ended
    assert (first.pending, [look.what for look in first.looks]) == ("its guest agent", ["hypervisor"])
    slow.step.callback(None)  # it ends between two calls
    again = examinations.join("s-1-VM", slow.examine)
    assert slow.begun == 1
    assert again.pending == ""
    assert again.finding is not None
    assert again.finding.status == BUSY
    assert [look.what for look in again.looks] == ["hypervisor", "guest agent"]


def test_later_callers_join_and_all_are_told_of_the_end() -> None:
    clock, slow = Clock(), _Slow()
    examinations = Examinations(clock)
    ends = [_wait(examinations.join("s-1-VM", slow.examine), clock, 60.0) for _ in range(20)]
    assert slow.begun == 1
    slow.step.callback(None)
    assert all(ends)
    assert not clock.getDelayedCalls()


def test_one_that_nobody_waits_for_any_more_is_not_told_later() -> None:
    clock, slow = Clock(), _Slow()
    examinations = Examinations(clock)
    _wait(examinations.join("s-1-VM", slow.examine), clock, 1.0)
    clock.advance(1.0)
    slow.step.callback(None)
    clock.advance(KEPT_S + 1)
    slow.step = Deferred()
    examinations.join("s-1-VM", slow.examine)
    assert slow.begun == 2


def test_one_that_fails_ends_and_says_so() -> None:
    clock = Clock()
    examinations = Examinations(clock)

    async def fail(examination: Examination) -> Finding:
        raise LookupError("no such thing")

    failed = examinations.join("s-1-VM", fail)
    assert failed.finding is not None
    assert failed.finding.status is None
    assert "no such thing" in failed.finding.looks[-1].said
    other = examinations.join("s-1-VM", _Slow().examine)
    assert other is not failed
