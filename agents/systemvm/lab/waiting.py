# SPDX-License-Identifier: Apache-2.0
"""Waits that end with a result or a definite failure; slowness is not a failure.

Each observation contains the progress so far. After `EXPLAIN_AFTER_S` without progress the wait prints the
reason and continues. It gives up only when the caller sets a limit: `late_s` without progress, or `hang_s`
without any activity.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from attrs import frozen

from systemvm.lab.errors import LabError
from systemvm.lab.reporting import Step

T = TypeVar("T")

#: Time without progress until the reason is printed; it doubles up to the longest.
EXPLAIN_AFTER_S = 60.0
EXPLAIN_AT_MOST_EVERY_S = 600.0
#: For tests: without progress or activity for so long it is a hang, however slow the machine is.
HANG_S = 900.0


class StalledError(LabError):
    """The wait reached its limit without progress or activity."""


class EndedError(LabError):
    """The awaited result is impossible, because the program that would produce it has ended."""


@frozen
class WaitState(Generic[T]):
    """The result of one check of a wait."""

    detail: str  # what is awaited now
    result: T | None = None  # the awaited result
    percent: float | None = None
    #: Changes with every step of progress.
    progress: Hashable = None
    #: Changes while anything works, for example with CPU time: then it is not hung, but it can be late.
    activity: Hashable = None


class Clock(Protocol):
    def seconds(self) -> float: ...

    def sleep(self, duration_s: float) -> None: ...


class _SystemClock:
    def seconds(self) -> float:
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)


def wait_for(
    look: Callable[[], WaitState[T]],
    step: Step,
    explain: Callable[[], str],
    *,
    late_s: float | None = None,
    hang_s: float | None = None,
    every_s: float = 1.0,
    clock: Clock | None = None,
) -> T:
    """Call `look` until it has a result, and return it.

    OSError of `look` means that the API does not answer now; any other exception ends the wait.

    Raises: StalledError after `late_s` without progress or `hang_s` without activity; None means no limit.
    """
    clock = clock or _SystemClock()
    progress: Hashable = object()
    activity: Hashable = object()
    progress_s = active_s = clock.seconds()
    explain_after_s, explained_s = EXPLAIN_AFTER_S, progress_s
    while True:
        try:
            found = look()
        except OSError as error:
            found = WaitState(f"an answer of the API ({error})", progress=progress, activity=activity)
        if found.result is not None:
            return found.result
        now_s = clock.seconds()
        if found.progress != progress:
            progress, progress_s, active_s, explained_s = found.progress, now_s, now_s, now_s
            explain_after_s = EXPLAIN_AFTER_S
        if found.activity != activity:
            activity, active_s = found.activity, now_s
        step.waits_for(found.detail, found.percent)
        for still_s, limit_s in ((now_s - progress_s, late_s), (now_s - active_s, hang_s)):
            if limit_s is not None and still_s >= limit_s:
                raise StalledError(f"no progress for {still_s:.0f} s: {found.detail}", explain())
        if now_s - explained_s >= explain_after_s:
            step.explain(f"no progress for {now_s - progress_s:.0f} s\n{explain()}")
            explained_s = clock.seconds()
            explain_after_s = min(explain_after_s * 2, EXPLAIN_AT_MOST_EVERY_S)
        clock.sleep(every_s)
