# SPDX-License-Identifier: Apache-2.0
"""How late the calls of a reactor come, as timed_program.py writes it."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock

from benchmark.timed_program import CALLS_PER_WRITE, EVERY_S, ReactorTimer, lateness_s


def test_lateness_is_what_a_busy_reactor_adds(tmp_path: Path) -> None:
    clock = Clock()
    with (tmp_path / "timed").open("w") as file:
        ReactorTimer(clock, file).start()
        clock.advance(EVERY_S)
        clock.advance(EVERY_S + 0.05)
        for _ in range(CALLS_PER_WRITE - 2):
            clock.advance(EVERY_S)
        late_s = lateness_s(tmp_path / "timed", 0.0, 100.0)
    assert [round(each, 3) for each in late_s[:3]] == [0.0, 0.05, 0.0]
    assert len(late_s) == CALLS_PER_WRITE
    assert len(lateness_s(tmp_path / "timed", 0.0, 0.015)) == 1, "only those that were due in the interval"
