# SPDX-License-Identifier: Apache-2.0
"""Examinations of system VMs that go on while their first results are already told; one per VM at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.management.control.agent import AgentStatus

#: How long the outcome waits for a caller that left while something was pending.
KEPT_S = 30.0


@frozen
class Look:
    """One thing that was looked at, and what it said."""

    what: str
    said: str


@frozen
class Finding:
    """`status` is None when nothing that was looked at is wrong."""

    status: AgentStatus | None
    looks: list[Look]


class Examination:
    """What is known of a VM so far."""

    def __init__(self) -> None:
        self.looks: list[Look] = []
        #: What is being looked at now, for people; empty at the end.
        self.pending = "what runs"
        self.finding: Finding | None = None
        self.was_left = False  # by somebody who will ask again
        self._waiting: list[Deferred[None]] = []

    def note(self, what: str, said: str) -> None:
        self.looks.append(Look(what, said))

    def conclude(self, status: AgentStatus | None) -> Finding:
        return Finding(status, list(self.looks))

    def finish(self, finding: Finding) -> None:
        """The end, also of one that failed: who waits is told."""
        self.finding = finding
        self.pending = ""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(None)

    async def wait(self, clock: IReactorTime, timeout_s: float) -> None:
        """Until the end, or for `timeout_s`, whichever comes first."""
        if self.finding is not None:
            return
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        timer = clock.callLater(timeout_s, waiter.callback, None)
        try:
            await waiter
            self.was_left |= self.finding is None
        finally:
            if timer.active():
                timer.cancel()


class Examinations:
    """Starts an examination, or joins the one that runs."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._running: dict[str, Examination] = {}
        self._finished: dict[str, tuple[float, Examination]] = {}

    def join(self, key: str, examine: Callable[[Examination], Awaitable[Finding]]) -> Examination:
        """The examination of this key; `examine` is called only when none runs.

        One that has ended since its caller was told that something is pending is handed out once more.
        """
        running = self._running.get(key)
        if running is not None:
            return running
        finished_s, finished = self._finished.pop(key, (0.0, None))
        if finished is not None and self._clock.seconds() - finished_s <= KEPT_S:
            return finished
        examination = Examination()
        self._running[key] = examination  # before anything is awaited: the next caller joins

        async def run() -> Finding:
            return await examine(examination)

        def ended(result: Finding | Failure) -> None:
            del self._running[key]
            if isinstance(result, Failure):
                self._log.failure("an examination failed", failure=result)
                examination.note("examination", f"failed: {result.getErrorMessage()}")
                result = examination.conclude(None)
            examination.finish(result)
            if examination.was_left:
                self._finished[key] = (self._clock.seconds(), examination)

        Deferred.fromCoroutine(run()).addBoth(ended)
        return examination
