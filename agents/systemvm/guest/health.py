# SPDX-License-Identifier: Apache-2.0
"""A snapshot of the guest for `agent.health`: figures from /proc, and failed units."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from systemvm.service.slowness import METER, Slowness, scaled_s
from systemvm.wire.agent import Health
from systemvm.wire.slowness import MachineLoad

UNITS_TIMEOUT_S = 10.0
#: systemctl costs an emulated guest 0.7 CPU seconds, most of them in PID 1.
UNITS_MAX_AGE_S = 600.0


def memory_bytes(meminfo: str) -> tuple[int, int]:
    """Return total and available memory from the text of /proc/meminfo."""
    kib: dict[str, int] = {}
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        fields = value.split()
        if fields and fields[0].isdigit():
            kib[name] = int(fields[0])
    return 1024 * kib.get("MemTotal", 0), 1024 * kib.get("MemAvailable", 0)


def resident_bytes(statm: str, page_bytes: int) -> int:
    """Return resident memory from the text of /proc/self/statm."""
    return int(statm.split()[1]) * page_bytes


def load_1min(loadavg: str) -> float:
    return float(loadavg.split()[0])


def unit_names(listing: str) -> list[str]:
    """Return the unit names in the output of `systemctl list-units --plain --no-legend`."""
    return [line.split()[0] for line in listing.splitlines() if line.strip()]


def list_failed_units() -> list[str]:
    """Return the names of failed units; when systemctl fails, one entry with its error."""
    command = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=scaled_s(UNITS_TIMEOUT_S), check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"unknown: {error}"]
    if done.returncode != 0:
        return [f"unknown: systemctl: {done.stderr.strip()}"]
    return unit_names(done.stdout)


class HealthSource:
    """Takes snapshots and caches `failed_units`. It blocks: call it in a thread."""

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        failed_units: Callable[[], list[str]] = list_failed_units,
        monotonic_s: Callable[[], float] = time.monotonic,
        slowness: Callable[[], Slowness] = METER.snapshot,
    ) -> None:
        self._proc = proc
        self._failed_units = failed_units
        self._monotonic_s = monotonic_s
        self._slowness = slowness
        self._units: list[str] = []
        self._units_at_s: float | None = None

    def snapshot(self, reconnects: int, waiting: int = 0) -> Health:
        """Return the current figures; `waiting` is the number of unfinished calls and jobs."""
        total, available = memory_bytes((self._proc / "meminfo").read_text())
        root = os.statvfs("/")
        return Health(
            uptime_s=time.clock_gettime(time.CLOCK_BOOTTIME),
            load_1min=load_1min((self._proc / "loadavg").read_text()),
            memory_total_bytes=total,
            memory_available_bytes=available,
            agent_rss_bytes=resident_bytes((self._proc / "self/statm").read_text(), resource.getpagesize()),
            root_free_bytes=root.f_bavail * root.f_frsize,
            failed_units=self._recent_units(),
            reconnects=reconnects,
            load=self._load(waiting),
        )

    def _load(self, waiting: int) -> MachineLoad:
        now = self._slowness()
        return MachineLoad(
            timeout_scale=now.timeout_scale,
            slowdown=now.slowdown,
            load_1min=now.load_1min,
            steal=now.steal,
            run_queue_delay=now.run_queue_delay,
            is_busy=now.is_busy,
            waiting=waiting,
        )

    def _recent_units(self) -> list[str]:
        now_s = self._monotonic_s()
        if self._units_at_s is None or now_s - self._units_at_s > UNITS_MAX_AGE_S:
            self._units = self._failed_units()
            self._units_at_s = now_s
        return self._units
