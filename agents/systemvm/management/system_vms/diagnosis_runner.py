# SPDX-License-Identifier: Apache-2.0
"""Diagnoses of system VMs that continue after their first results were returned; one per VM at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.management.control.agent import AgentStatus

#: How long a result is kept for a caller that left before the diagnosis ended.
RESULT_RETENTION_S = 30.0


@frozen
class Observation:
    """One source that was examined, and its output."""

    what: str
    said: str


@frozen
class Finding:
    """The result of a diagnosis; `status` is None when no source shows a fault."""

    status: AgentStatus | None
    observations: list[Observation]


class DiagnosisRun:
    """One diagnosis of one VM, with what it has found so far."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        #: The source that is examined now, for people; empty at the end.
        self.pending = "what runs"
        self.finding: Finding | None = None
        self.has_timed_out = False  # for a caller, which will call again
        self._waiters: list[Deferred[None]] = []

    def note(self, what: str, said: str) -> None:
        self.observations.append(Observation(what, said))

    def conclude(self, status: AgentStatus | None) -> Finding:
        return Finding(status, list(self.observations))

    def finish(self, finding: Finding) -> None:
        """Set the result, also that of a run that failed, and resume everyone who waits for it."""
        self.finding = finding
        self.pending = ""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)

    async def wait(self, clock: IReactorTime, timeout_s: float) -> None:
        """Wait until the end or for `timeout_s`, whichever comes first."""
        if self.finding is not None:
            return
        self.has_timed_out = False  # the caller has called again, and gets the result here
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        timer = clock.callLater(timeout_s, waiter.callback, None)
        try:
            await waiter
            self.has_timed_out |= self.finding is None
        finally:
            if timer.active():
                timer.cancel()


class DiagnosisRunner:
    """Starts a diagnosis, or joins the one that runs."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._running: dict[str, DiagnosisRun] = {}
        self._finished: dict[str, tuple[float, DiagnosisRun]] = {}

    def start_or_join(self, key: str, diagnose: Callable[[DiagnosisRun], Awaitable[Finding]]) -> DiagnosisRun:
        """Return the run of this key; `diagnose` is called only when none exists.

        A run that ended between a caller's timeout and its next call is returned once more.
        """
        running = self._running.get(key)
        if running is not None:
            return running
        finished_s, finished = self._finished.pop(key, (0.0, None))
        if finished is not None and self._clock.seconds() - finished_s <= RESULT_RETENTION_S:
            return finished
        run = DiagnosisRun()
        self._running[key] = run  # before anything is awaited: the next caller joins

        async def guarded() -> Finding:
            return await diagnose(run)

        def ended(result: Finding | Failure) -> None:
            del self._running[key]
            if isinstance(result, Failure):
                self._log.failure("diagnosis failed", failure=result)
                run.note("diagnosis", f"failed: {result.getErrorMessage()}")
                result = run.conclude(None)
            run.finish(result)
            if run.has_timed_out:
                self._finished[key] = (self._clock.seconds(), run)

        Deferred.fromCoroutine(guarded()).addBoth(ended)
        return run
