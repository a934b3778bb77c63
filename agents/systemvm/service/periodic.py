# SPDX-License-Identifier: Apache-2.0
"""Work that repeats: one instance of it, never on top of itself, and less often while it fails."""

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
    """Awaits `work()` once an interval, counted from the end of the run before.

    A run that is late is waited for; a run that failed is logged, and each further failure doubles the
    interval, up to eight times. Each wait is up to a tenth shorter by chance, so that what started together
    does not stay together.
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
        """Begin; the first run is now, or an interval from now."""
        self._started = True
        if now:
            self.run_soon()
        else:
            self._schedule()

    def stop(self) -> None:
        """No more runs; one that is under way comes to its end."""
        self._started = False
        self._cancel_timer()

    @property
    def is_running(self) -> bool:
        return self._running

    def run_soon(self) -> None:
        """Run now, out of turn. While one runs, one more follows it, however often this is called."""
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
