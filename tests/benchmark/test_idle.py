# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-idle`, and how it reads CPU time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmark.idle import CPVM, DAEMON, SSVM, Processes, cpu_s, rows


def test_all_limits_are_evaluated() -> None:
    table = rows({SSVM: 3.0, CPVM: 3.1, DAEMON: 0.5}, download_s=2.5)
    assert [row["holds"] for row in table] == [True, False, True, True]
    assert table[-1]["bar"] is None


def test_cpu_time_is_read_for_every_process_name() -> None:
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    assert cpu_s("7 (qemu) S 1) R 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20 0 2 0 9") == 42 * tick_s


def test_cpu_time_during_an_action_is_measured_for_each_process() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        measured = Processes({"busy": busy.pid, "this": os.getpid()})

        def wait_for_cpu_time() -> None:
            began_s = cpu_s(Path(f"/proc/{busy.pid}/stat").read_text())
            while cpu_s(Path(f"/proc/{busy.pid}/stat").read_text()) - began_s < 0.1:
                os.sched_yield()

        used, took_s = measured.during(wait_for_cpu_time)
    finally:
        busy.kill()
        busy.wait()
    assert used["busy"] >= 0.09
    assert took_s > 0
