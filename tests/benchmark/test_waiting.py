# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-waiting`."""

from __future__ import annotations

import os
import time

from benchmark.waiting import cpu_percent, rows


def test_one_percent_of_a_core_is_the_limit() -> None:
    table = rows({"daemon": 0.99, "SSVM": 1.2}, "waiting")
    assert [(each["metric"], each["holds"]) for each in table] == [
        ("daemon, waiting", True),
        ("SSVM, waiting", False),
    ]


def test_cpu_of_processes_that_sleep_is_almost_nothing() -> None:
    begun_s = time.monotonic()
    used = cpu_percent({"this": [os.getpid()], "none": []}, 0.01)
    assert time.monotonic() > begun_s
    assert used["none"] == 0.0
    assert used["this"] >= 0.0
