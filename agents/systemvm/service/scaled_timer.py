# SPDX-License-Identifier: Apache-2.0
"""A timer against hangs that is extended when the machine becomes slow during the wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from systemvm.service.slowness import timeout_scale

T = TypeVar("T")


class ScaledTimer:
    """Calls `fire` once, `timeout_s` × scale seconds after its start, by the scale at that time.

    A machine that slows down during the wait extends it; the wait is bounded, because the scale is.
    """

    def __init__(
        self,
        clock: IReactorTime,
        timeout_s: float,
        fire: Callable[[], object],
        scale: Callable[[], float] = timeout_scale,
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._fire = fire
        self._scale = scale
        self._began_s = clock.seconds()
        self._timer: IDelayedCall = clock.callLater(timeout_s * scale(), self._expire)

    def active(self) -> bool:
        """Whether it will still fire."""
        return bool(self._timer.active())

    def cancel(self) -> None:
        """Cancel it; nothing happens when it has fired or was cancelled before."""
        if self._timer.active():
            self._timer.cancel()

    @property
    def waited_s(self) -> float:
        """Seconds since its start."""
        return self._clock.seconds() - self._began_s

    def _expire(self) -> None:
        left_s = self._timeout_s * self._scale() - self.waited_s
        if left_s > 0.001:
            self._timer = self._clock.callLater(left_s, self._expire)
        else:
            self._fire()


def add_scaled_timeout(
    deferred: Deferred[T],
    timeout_s: float,
    clock: IReactorTime,
    scale: Callable[[], float] = timeout_scale,
) -> Deferred[T]:
    """`Deferred.addTimeout` with a timeout that scales.

    Fails with Twisted's TimeoutError when it has passed.
    """
    timer = ScaledTimer(clock, timeout_s, deferred.cancel, scale)

    def ended(result: T | Failure) -> T | Failure:
        timed_out = not timer.active()
        timer.cancel()
        if timed_out and isinstance(result, Failure) and result.check(CancelledError) is not None:
            return Failure(TimeoutError(timer.waited_s, "Deferred"))
        return result

    return deferred.addBoth(ended)
