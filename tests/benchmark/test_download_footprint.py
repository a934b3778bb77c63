# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-footprint`, and how it reads memory."""

from __future__ import annotations

import os

from twisted.internet.task import Clock

from benchmark.download_footprint import Lateness, memory_mib, percentile, row


def test_a_limit_is_the_most_that_holds() -> None:
    assert row("mover", 40.0, 40.0, "MiB")["holds"]
    assert not row("mover", 40.1, 40.0, "MiB")["holds"]


def test_percentile_is_a_value_that_occurred() -> None:
    assert percentile([float(number) for number in range(1, 101)], 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0


def test_memory_of_a_process_is_read_and_one_that_ended_has_none() -> None:
    assert 1.0 < memory_mib(os.getpid(), "VmRSS") < 4096.0
    assert memory_mib(os.getpid(), "Pss", "smaps_rollup") > 1.0
    assert memory_mib(2**22 + 1, "VmRSS") == 0.0


def test_lateness_is_what_a_busy_reactor_adds() -> None:
    clock = Clock()
    measured = Lateness(clock).start()
    clock.advance(0.01)
    clock.advance(0.06)
    measured.is_running = False
    assert [round(each, 3) for each in measured.late_s] == [0.0, 0.05]
