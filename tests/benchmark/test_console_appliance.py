# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-console-appliance`."""

from __future__ import annotations

from benchmark.console_appliance import Usage, row

BEFORE, AFTER = Usage.parse("100.00 250 50 58000\n"), Usage.parse("110.00 400 100 60000\n")


def counted(share: float, late_ms: float) -> dict[str, float]:
    return {"seconds": 10.0, "bytes": share * 20 * 5 * 4096 * 10.0, "p99_us": late_ms * 1000}


def test_cpu_is_that_of_the_time_between_two_readings() -> None:
    found = row(20, BEFORE, AFTER, counted(1.0, 12.0))
    assert (found["cores"], found["resident_mb"]) == (0.2, 61.4)
    assert (found["is_carried"], found["is_in_time"]) == (True, True)


def test_sessions_are_carried_when_they_get_their_updates() -> None:
    late, starved = row(20, BEFORE, AFTER, counted(0.96, 51.0)), row(20, BEFORE, AFTER, counted(0.9, 51.0))
    assert (late["is_carried"], late["is_in_time"]) == (True, False)
    assert starved["is_carried"] is False
