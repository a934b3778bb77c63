# SPDX-License-Identifier: Apache-2.0
"""The health report, from /proc and systemctl."""

from __future__ import annotations

from pathlib import Path

from systemvm.guest import health
from systemvm.service.slowness import Slowness
from systemvm.wire.slowness import MachineLoad

MEMINFO = (
    "MemTotal:         490012 kB\nMemFree:  1 kB\nMemAvailable:     300004 kB\nHugePages_Total:       0\n"
)


def test_parsers_return_their_fields() -> None:
    assert health.memory_bytes(MEMINFO) == (490012 * 1024, 300004 * 1024)
    assert health.memory_bytes("") == (0, 0)
    assert health.resident_bytes("9000 1200 300 1 0 500 0\n", 4096) == 1200 * 4096
    assert health.load_1min("0.52 0.58 0.59 1/467 12345\n") == 0.52
    listing = "nfs.service loaded failed failed NFS\n\nx@1.service loaded failed failed X\n"
    assert health.unit_names(listing) == ["nfs.service", "x@1.service"]


def test_failed_units_are_cached(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "loadavg").write_text("0.10 0 0 1/1 1\n")
    (tmp_path / "self/statm").write_text("9000 1200 300 1 0 500 0\n")
    queried_at_s: list[float] = []
    now_s = [100.0]

    def failed_units() -> list[str]:
        queried_at_s.append(now_s[0])
        return ["x.service"]

    source = health.HealthSource(proc=tmp_path, failed_units=failed_units, monotonic_s=lambda: now_s[0])
    snapshot = source.snapshot(reconnects=3)
    assert (snapshot.load_1min, snapshot.reconnects, snapshot.failed_units) == (0.1, 3, ["x.service"])
    assert snapshot.uptime_s > 0
    assert snapshot.root_free_bytes > 0
    now_s[0] += health.UNITS_MAX_AGE_S
    source.snapshot(0)
    now_s[0] += 1
    source.snapshot(0)
    assert queried_at_s == [100.0, 701.0]


def test_the_report_contains_the_slowness_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "loadavg").write_text("9.10 0 0 1/1 1\n")
    (tmp_path / "self/statm").write_text("9000 1200 300 1 0 500 0\n")
    slow = Slowness(20.0, 5.0, load_1min=9.1, steal=0.25, run_queue_delay=0.5)
    source = health.HealthSource(proc=tmp_path, failed_units=list, slowness=lambda: slow)
    load = source.snapshot(0).load
    assert load == MachineLoad(20.0, 5.0, load_1min=9.1, steal=0.25, run_queue_delay=0.5, is_busy=True)


def test_failed_units_are_listed_by_name() -> None:
    units = health.list_failed_units()
    assert all(isinstance(unit, str) for unit in units)
