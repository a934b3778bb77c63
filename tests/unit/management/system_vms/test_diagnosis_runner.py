# SPDX-License-Identifier: Apache-2.0
"""A running diagnosis returns its first results, and each VM has at most one."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.management.control.agent import AgentStatus
from systemvm.management.state.status import AgentState
from systemvm.management.system_vms.diagnosis_runner import (
    RESULT_RETENTION_S,
    DiagnosisRun,
    DiagnosisRunner,
    Finding,
)

BUSY = AgentStatus(AgentState.ALERT, "is busy")


class _SlowDiagnosis:
    """A diagnosis that waits for `step`."""

    def __init__(self) -> None:
        self.begun = 0
        self.step: Deferred[None] = Deferred()

    async def start(self, run: DiagnosisRun) -> Finding:
        self.begun += 1
        run.note("hypervisor", "running")
        run.pending = "its guest agent"
        await self.step
        run.note("guest agent", "does not answer")
        return run.conclude(BUSY)


def _wait(run: DiagnosisRun, clock: Clock, timeout_s: float) -> list[bool]:
    ended: list[bool] = []
    Deferred.fromCoroutine(run.wait(clock, timeout_s)).addCallback(lambda _: ended.append(True))
    return ended


def test_caller_gets_first_results_in_time_and_the_rest_with_the_next_call() -> None:
    clock, slow = Clock(), _SlowDiagnosis()
    runner = DiagnosisRunner(clock)
    first = runner.start_or_join("s-1-VM", slow.start)
    ended = _wait(first, clock, 6.0)
    clock.advance(5.9)
    assert not ended
    clock.advance(0.1)
    assert ended
    assert (first.pending, [look.what for look in first.observations]) == ("its guest agent", ["hypervisor"])
    slow.step.callback(None)  # it ends between two calls
    again = runner.start_or_join("s-1-VM", slow.start)
    assert slow.begun == 1
    assert again.pending == ""
    assert again.finding is not None
    assert again.finding.status == BUSY
    assert [look.what for look in again.observations] == ["hypervisor", "guest agent"]


def test_later_callers_join_and_all_get_the_result() -> None:
    clock, slow = Clock(), _SlowDiagnosis()
    runner = DiagnosisRunner(clock)
    ends = [_wait(runner.start_or_join("s-1-VM", slow.start), clock, 60.0) for _ in range(20)]
    assert slow.begun == 1
    slow.step.callback(None)
    assert all(ends)
    assert not clock.getDelayedCalls()


def test_result_without_a_waiting_caller_expires() -> None:
    clock, slow = Clock(), _SlowDiagnosis()
    runner = DiagnosisRunner(clock)
    _wait(runner.start_or_join("s-1-VM", slow.start), clock, 1.0)
    clock.advance(1.0)
    slow.step.callback(None)
    clock.advance(RESULT_RETENTION_S + 1)
    slow.step = Deferred()
    runner.start_or_join("s-1-VM", slow.start)
    assert slow.begun == 2


def test_result_that_a_later_call_received_is_not_returned_again() -> None:
    clock, slow = Clock(), _SlowDiagnosis()
    runner = DiagnosisRunner(clock)
    _wait(runner.start_or_join("s-1-VM", slow.start), clock, 6.0)
    clock.advance(6.0)
    received = _wait(runner.start_or_join("s-1-VM", slow.start), clock, 6.0)
    slow.step.callback(None)
    assert received
    slow.step = Deferred()
    assert runner.start_or_join("s-1-VM", slow.start).finding is None
    assert slow.begun == 2


def test_failed_run_ends_with_the_error_noted() -> None:
    clock = Clock()
    runner = DiagnosisRunner(clock)

    async def fail(run: DiagnosisRun) -> Finding:
        raise LookupError("no such thing")

    failed = runner.start_or_join("s-1-VM", fail)
    assert failed.finding is not None
    assert failed.finding.status is None
    assert "no such thing" in failed.finding.observations[-1].said
    other = runner.start_or_join("s-1-VM", _SlowDiagnosis().start)
    assert other is not failed
