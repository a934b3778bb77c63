# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-recovery`."""

from __future__ import annotations

import pytest

from benchmark.recovery import rows, seconds


@pytest.mark.parametrize(
    ("text", "value"), [("2s", 2.0), ("1min 2.5s", 62.5), ("500ms", 0.5), ("infinity", 0.0)]
)
def test_time_spans_of_systemd_are_parsed(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


def test_limits_are_relative_to_the_same_run() -> None:
    measured = {"agent": [15.0], "daemon": [4.0, 10.0], "boot": [20.0, 30.0], "machine": [30.0]}
    table = rows(measured, restart_s=2.0, activation_s=10.0)
    assert [(row["ours"], row["bar"], row["holds"]) for row in table] == [
        (15.0, 15.0, True),
        (10.0, 10.0, True),
        (30.0, 1.2, True),
    ]


def test_the_slowest_daemon_restart_counts_and_a_slower_boot_fails() -> None:
    measured = {"agent": [15.1], "daemon": [4.0, 10.1], "boot": [20.0], "machine": [24.1]}
    assert [row["holds"] for row in rows(measured, restart_s=2.0, activation_s=10.0)] == [False] * 3
