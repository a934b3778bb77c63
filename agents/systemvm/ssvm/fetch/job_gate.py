# SPDX-License-Identifier: Apache-2.0
"""Limits how many downloads run at a time, by how slow the machine is.

On a machine with a part of a core, eight movers at a time finish no sooner than two and starve everything
else on it. The limit starts low, grows while the machine is quick, and shrinks while it is busy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from systemvm.service import slowness
from systemvm.service.slowness import BUSY_SLOWDOWN
from systemvm.ssvm.limits import DEFAULT

#: One whose source trickles uses no CPU time, so the limit grows while it runs.
MIN_LIMIT = 1
GROWTH = 2
#: Below this slowdown more downloads can run.
QUICK_SLOWDOWN = 2.0
OBSERVE_INTERVAL_S = slowness.MAX_AGE_S  # a measurement is not made more often


class ConcurrencyLimit:
    """The limit: grows by `GROWTH` while the machine is quick, and shrinks by one whenever it is busy.

    >>> limit = ConcurrencyLimit(8)
    >>> [limit.observe(slowdown) for slowdown in (1.0, 1.0, 1.0, 1.0, 2.5, 4.0)]
    [4, 6, 8, 8, 8, 7]
    """

    def __init__(self, maximum: int, initial: int = DEFAULT.initial_active_jobs) -> None:
        self._maximum = maximum
        self.value = min(initial, maximum)

    def observe(self, slowdown: float) -> int:
        """Return the limit after a measurement; `slowdown` is 1 for a machine at its best."""
        if slowdown >= BUSY_SLOWDOWN:
            self.value = max(MIN_LIMIT, self.value - 1)
        elif slowdown < QUICK_SLOWDOWN:
            self.value = min(self._maximum, self.value + GROWTH)
        return self.value


def measure_slowdown() -> float:
    """Return how many times slower this machine is than at its best."""
    return slowness.METER.snapshot().slowdown


class JobGate:
    """Admits jobs in order of arrival; measures only while one waits."""

    def __init__(
        self,
        clock: IReactorTime,
        maximum: int,
        slowdown: Callable[[], float] = measure_slowdown,
        initial: int = DEFAULT.initial_active_jobs,
    ) -> None:
        self._clock = clock
        self._slowdown = slowdown
        self._limit = ConcurrencyLimit(maximum, initial)
        self._active = 0
        self._waiting: OrderedDict[int, Deferred[None]] = OrderedDict()
        self._large = 0
        self._large_waiting: OrderedDict[int, Deferred[None]] = OrderedDict()
        self._next = 0
        self._timer: IDelayedCall | None = None

    @property
    def is_full(self) -> bool:
        """Whether the next job has to wait."""
        return bool(self._waiting) or self._active >= self._limit.value

    @property
    def has_large_place(self) -> bool:
        """Whether the next large job does not have to wait."""
        return self._large < self._max_large

    async def enter(self) -> None:
        """Wait for a place; cancelling leaves the queue. A job that has entered must `leave`."""
        if not self.is_full:
            self._active += 1
            return
        self._next += 1
        ticket = self._next
        waiter: Deferred[None] = Deferred()
        self._waiting[ticket] = waiter
        self._observe_later()
        try:
            await waiter
        finally:
            self._waiting.pop(ticket, None)

    async def enter_large(self) -> bool:
        """Have a job with a place count as large; return whether it had to wait, without its place.

        Large jobs leave one place to others, so that a small one never waits for the end of a huge one.
        """
        if self.has_large_place:
            self._large += 1
            return False
        self._next += 1
        ticket = self._next
        waiter: Deferred[None] = Deferred()
        self._large_waiting[ticket] = waiter
        self.leave()
        try:
            await waiter
        except BaseException:
            self._active += 1  # its caller gives the place back
            self._large += 1
            raise
        finally:
            self._large_waiting.pop(ticket, None)
        return True

    def leave_large(self) -> None:
        """Note that a job is large no more; it still has its place."""
        self._large -= 1

    @property
    def _max_large(self) -> int:
        return max(1, self._limit.value - 1)

    def enter_at_once(self) -> None:
        """Take the place again of a job that had left for a while and goes on now."""
        self._active += 1

    def leave(self) -> None:
        """Give the place back."""
        self._active -= 1
        self._admit()

    def _admit(self) -> None:
        while self._large_waiting and self._large < self._max_large and self._active < self._limit.value:
            _, waiter = self._large_waiting.popitem(last=False)
            self._active += 1
            self._large += 1
            waiter.callback(None)
        while self._waiting and self._active < self._limit.value:
            _, waiter = self._waiting.popitem(last=False)
            self._active += 1
            waiter.callback(None)
        self._observe_later()

    def _observe_later(self) -> None:
        if (self._waiting or self._large_waiting) and (self._timer is None or not self._timer.active()):
            self._timer = self._clock.callLater(OBSERVE_INTERVAL_S, self._observe)

    def _observe(self) -> None:
        self._limit.observe(self._slowdown())
        self._admit()
