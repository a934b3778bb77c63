# SPDX-License-Identifier: Apache-2.0
"""The evaluation of `make bench-console`, and how it measures a tree of processes."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmark.console import AGENT, COMPARISONS, NGINX, WEBSOCKIFY, Comparison, Run, limit_row, row
from benchmark.console_peers import Proxy

THROUGHPUT, CPU, ROUND_TRIP, NEW, TOGETHER = COMPARISONS


def run(**counted: float) -> Run:
    return Run(
        1.0, 50_000.0, {"seconds": 1.0, "bytes": 0.0, "p50_us": 0.0, "opened": 0.0} | counted, 900.0, 1000.0
    )


def verdict(comparison: Comparison, name: str, ours: Run, theirs: Run) -> bool:
    return bool(row(comparison, [ours], name, [theirs])["holds"])


def test_bars_are_those_that_were_promised() -> None:
    assert THROUGHPUT.bars == {NGINX: 1.0, WEBSOCKIFY: 1.25}
    assert CPU.bars == {NGINX: 1.15, WEBSOCKIFY: 0.5}
    assert ROUND_TRIP.bars == {NGINX: 2.0, WEBSOCKIFY: 1.0}
    assert NEW.bars == {NGINX: 0.5, WEBSOCKIFY: 8.0}
    assert TOGETHER.bars == {}
    assert CPU.filtered_bars == {AGENT: 1.1}


def test_throughput_has_a_least_ratio() -> None:
    assert verdict(THROUGHPUT, NGINX, run(bytes=1e8), run(bytes=1e8))
    assert not verdict(THROUGHPUT, NGINX, run(bytes=0.99e8), run(bytes=1e8))


def test_cpu_and_round_trip_have_a_greatest_ratio() -> None:
    assert verdict(CPU, WEBSOCKIFY, run(bytes=2e8), run(bytes=1e8))
    assert not verdict(CPU, WEBSOCKIFY, run(bytes=1.9e8), run(bytes=1e8))
    assert not verdict(ROUND_TRIP, NGINX, run(p50_us=41.0), run(p50_us=20.0))


def test_ratio_is_the_median_of_the_rounds() -> None:
    ours = [run(opened=float(number)) for number in (50, 80, 10)]
    found = row(NEW, ours, NGINX, [run(opened=100.0)] * 3)
    assert (found["ratio"], found["ours"], found["holds"]) == (0.5, 50.0, True)


def test_a_peer_without_a_bar_is_only_shown() -> None:
    found = row(NEW, [run(opened=1.0)], "before", [run(opened=100.0)])
    assert (found["bar"], found["holds"]) == ("", True)


def test_a_limit_is_the_most_that_holds() -> None:
    assert limit_row("memory", "MB", 80.0, 80.0, NGINX, 90.0)["holds"]
    assert not limit_row("memory", "MB", 80.1, 80.0, NGINX, 10.0)["holds"]


def test_cpu_and_memory_of_children_are_counted() -> None:
    busy = "x = bytearray(30 << 20)\nwhile sum(os.times()[:2]) < 0.3: pass\nprint(flush=True); input()"
    program = f"import os\nif os.fork(): os.wait()\nelse:\n  {busy.replace(chr(10), chr(10) + '  ')}"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        proxy = Proxy("test", process.pid, 0, "")
        assert len(proxy.pids()) == 2
        assert proxy.cpu_s() >= 0.3
        assert proxy.proportional_kb() > 30_000
        process.stdin.write(b"\n")
    assert proxy.cpu_s() == 0.0
    assert os.getpid() not in proxy.pids()
