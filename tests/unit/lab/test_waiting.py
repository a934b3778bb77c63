# SPDX-License-Identifier: Apache-2.0
"""Waits of the lab: explanations, progress, hangs and ends."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from systemvm.lab.waiting import (
    EXPLAIN_AFTER_S,
    EXPLAIN_AT_MOST_EVERY_S,
    EndedError,
    StalledError,
    WaitState,
    wait_for,
)


class FakeTime:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def seconds(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s


class FakeStep:
    """A step that records details and explanations with their times."""

    def __init__(self, time: FakeTime) -> None:
        self._time = time
        self.details: list[str] = []
        self.explained: list[tuple[float, str]] = []

    def waits_for(self, text: str, percent: float | None = None) -> None:
        self.details.append(text)

    def explain(self, text: str) -> None:
        self.explained.append((self._time.now_s - 1000.0, text))


class Harness:
    def __init__(self) -> None:
        self.time = FakeTime()
        self.step = FakeStep(self.time)

    @property
    def elapsed_s(self) -> float:
        return self.time.now_s - 1000.0

    def wait(self, look: Callable[[], WaitState[str]], **limits: float) -> Any:
        return wait_for(look, self.step, lambda: "the NFS server hangs", clock=self.time, **limits)


def test_a_wait_with_progress_continues_without_output() -> None:
    harness = Harness()

    def poll() -> WaitState[str]:
        minute = harness.elapsed_s // 50
        return WaitState(f"minute {minute}", result="done" if minute > 200 else None, progress=minute)

    assert harness.wait(poll, late_s=60, hang_s=60) == "done"
    assert harness.elapsed_s > 10_000
    assert harness.step.explained == []


def test_a_minute_without_progress_is_explained_and_the_wait_continues() -> None:
    harness = Harness()
    poll = lambda: WaitState("its SSVM", result="done" if harness.elapsed_s > 4000 else None)  # noqa: E731
    assert harness.wait(poll) == "done"
    times = [when_s for when_s, _ in harness.step.explained]
    assert times[0] == EXPLAIN_AFTER_S
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == sorted(gaps) and gaps[-1] == EXPLAIN_AT_MOST_EVERY_S
    assert harness.step.explained[0][1] == "no progress for 60 s\nthe NFS server hangs"


def test_progress_restarts_the_minute() -> None:
    harness = Harness()

    def poll() -> WaitState[str]:
        result = "y" if harness.elapsed_s > 130 else None
        return WaitState("x", result=result, progress=harness.elapsed_s > 30)

    harness.wait(poll)
    assert [when_s for when_s, _ in harness.step.explained] == [31 + EXPLAIN_AFTER_S]


def test_work_without_progress_is_late_and_not_hung() -> None:
    harness = Harness()
    with pytest.raises(StalledError, match="no progress for 120 s: x\nhint: the NFS server hangs"):
        harness.wait(lambda: WaitState("x", activity=harness.elapsed_s), late_s=120, hang_s=60)
    with pytest.raises(StalledError, match="no progress for 60 s"):
        harness.wait(lambda: WaitState("x"), late_s=120, hang_s=60)


def test_an_unreachable_api_is_waited_for_and_an_ended_program_is_not() -> None:
    harness = Harness()

    def poll() -> WaitState[str]:
        if harness.elapsed_s < 30:
            raise TimeoutError("timed out")
        raise EndedError("the daemon ended")

    with pytest.raises(EndedError, match="the daemon ended"):
        harness.wait(poll)
    assert harness.step.details[0] == "an answer of the API (timed out)"
