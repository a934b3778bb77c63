# SPDX-License-Identifier: Apache-2.0
"""Repeats work: never two runs at a time, and less often while it fails."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

JITTER = 0.1
MAX_BACKOFF = 8.0


class Periodic:
    """Awaits `work()` once an interval, counted from the end of the previous run.

    A late run is waited for; a failure is logged, and each further one doubles the interval, up to eight
    times. Each wait is up to a tenth shorter by chance, so that programs that start together do not stay in
    step.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        work: Callable[[], Awaitable[object]],
        interval_s: float,
        *,
        what: str,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._work = work
        self._interval_s = interval_s
        self._what = what
        self._uniform = uniform
        self._timer: IDelayedCall | None = None
        self._started = False
        self._running = False
        self._again = False
        self._backoff = 1.0

    def start(self, *, now: bool) -> None:
        """Start; the first run is now, or an interval from now."""
        self._started = True
        if now:
            self.run_soon()
        else:
            self._schedule()

    def stop(self) -> None:
        """Stop; a run that has begun is completed."""
        self._started = False
        self._cancel_timer()

    @property
    def is_running(self) -> bool:
        return self._running

    def run_soon(self) -> None:
        """Run now; while a run is in progress, exactly one more follows it."""
        if not self._started:
            return
        if self._running:
            self._again = True
            return
        self._cancel_timer()
        self._running = True

        async def run() -> None:
            await self._work()

        Deferred.fromCoroutine(run()).addCallbacks(self._succeeded, self._failed).addBoth(self._ended)

    def _succeeded(self, _: None) -> None:
        self._backoff = 1.0

    def _failed(self, failure: Failure) -> None:
        self._backoff = min(MAX_BACKOFF, 2 * self._backoff)
        self._log.failure("{what} failed", failure=failure, what=self._what)

    def _ended(self, _: object) -> None:
        self._running = False
        again, self._again = self._again, False
        if again:
            self.run_soon()
        elif self._started:
            self._schedule()

    def _schedule(self) -> None:
        wait_s = self._interval_s * self._backoff * self._uniform(1.0 - JITTER, 1.0)
        self._timer = self._clock.callLater(wait_s, self.run_soon)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
