# SPDX-License-Identifier: Apache-2.0
"""Waits that end by their result, by a real end, or not at all: slowness alone is no failure.

Each look at what is waited for tells how far it is. After `EXPLAIN_AFTER_S` without progress the wait says
why and goes on. It is given up only where that is asked for: as late, after so long without progress, or as
hung, after so long without any activity either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from attrs import frozen

from systemvm.lab.errors import LabError
from systemvm.lab.reporting import Step

T = TypeVar("T")

#: Without progress, before the reason is looked for; then ever more rarely, up to the longest.
EXPLAIN_AFTER_S = 60.0
EXPLAIN_AT_MOST_EVERY_S = 600.0
#: For tests: a wait without progress or activity for so long is a hang, however slow the machine is.
HANG_S = 900.0


class StalledError(LabError):
    """It is late, or hung, and whoever waits does not want to wait longer."""


class EndedError(LabError):
    """What was waited for cannot come any more: the program that would bring it has ended."""


@frozen
class Look(Generic[T]):
    """What one look found."""

    detail: str  # what is waited for now
    result: T | None = None  # that which was waited for, once it is there
    percent: float | None = None
    #: Changes with every step that a person would call progress.
    progress: Hashable = None
    #: Changes while anything works at all, as CPU time does: it is not hung then, though it may be late.
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
    look: Callable[[], Look[T]],
    step: Step,
    explain: Callable[[], str],
    *,
    late_s: float | None = None,
    hang_s: float | None = None,
    every_s: float = 1.0,
    clock: Clock | None = None,
) -> T:
    """Look until there is a result, and return it; StalledError after `late_s` or `hang_s`, None for never.

    A look that raises OSError found an API that does not answer now; any other exception ends the wait.
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
            found = Look(f"an answer of the API ({error})", progress=progress, activity=activity)
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
