# SPDX-License-Identifier: Apache-2.0
"""The wait of a job before its next attempt, which news of its source can end."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


class Pause:
    """One wait at a time."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._ended: Deferred[None] | None = None

    def begin(self, delay_s: float) -> Deferred[None]:
        """Return when the time is over, or `end` was called; it can be cancelled."""
        ended: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(delay_s, ended.callback, None)

        def over(result: object) -> object:
            self._ended = None
            if timer.active():
                timer.cancel()
            return result

        self._ended = ended
        ended.addBoth(over)
        return ended

    def end(self) -> None:
        """End the wait now, if there is one."""
        if self._ended is not None:
            self._ended.callback(None)
