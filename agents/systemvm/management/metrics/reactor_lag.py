# SPDX-License-Identifier: Apache-2.0
"""Measures how late the reactor runs its timers: what every call of the API and every agent waits for."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from systemvm.service.metrics import Histogram

INTERVAL_S = 0.5


class ReactorLag:
    """A timer that observes its own lateness."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._due_s = 0.0
        self.late = Histogram()

    def start(self) -> None:
        self._due_s = self._clock.seconds() + INTERVAL_S
        self._timer = self._clock.callLater(INTERVAL_S, self._tick)

    def stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _tick(self) -> None:
        self.late.observe(max(0.0, self._clock.seconds() - self._due_s))
        self.start()
