# SPDX-License-Identifier: Apache-2.0
"""Limits processes to a fraction of a core: by cgroup v2, by cgroup v1, or by SIGSTOP and SIGCONT.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst (`cpu.max`) and scheduler/sched-bwc.rst (v1).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

V2_ROOT = Path("/sys/fs/cgroup")
V1_ROOT = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 100_000


class CpuLimiter(Protocol):
    """Limits each process to the same fraction of a core."""

    name: str

    def add(self, pid: int) -> None:
        """Limit a process and its threads; do nothing if it has ended.

        Raises: OSError when it cannot be limited.
        """

    def close(self) -> None:
        """Lift every limit."""


class CgroupLimiter:
    """A cgroup for each process, with a bandwidth quota."""

    def __init__(self, root: Path, limits: dict[str, str], name: str) -> None:
        self.name = name
        self._root = root
        self._limits = limits
        self._groups: list[Path] = []

    def add(self, pid: int) -> None:
        group = self._root / f"systemvm-test-{os.getpid()}-{pid}"
        group.mkdir(exist_ok=True)
        if group not in self._groups:
            self._groups.append(group)
        for file, text in self._limits.items():
            (group / file).write_text(text)
        with contextlib.suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        for group in self._groups:
            with contextlib.suppress(FileNotFoundError):
                for pid in (group / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        (self._root / "cgroup.procs").write_text(pid)
                group.rmdir()
        self._groups.clear()


class DutyCycleLimiter:
    """SIGSTOP and SIGCONT alternately: coarser than a cgroup, but always available."""

    name = "stop-and-continue duty cycle"

    def __init__(self, cores: float, period_s: float = 0.1) -> None:
        self._run_s, self._stop_s = period_s * cores, period_s * (1.0 - cores)
        self._pids: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._cycle, name="duty-cycle", daemon=True)
        self._thread.start()

    def add(self, pid: int) -> None:
        self._pids.add(pid)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._signal(signal.SIGCONT)

    def _cycle(self) -> None:
        while not self._ended.wait(self._run_s):
            self._signal(signal.SIGSTOP)
            self._ended.wait(self._stop_s)
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in list(self._pids):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                self._pids.discard(pid)


def make_limiter(cores: float) -> CpuLimiter:
    """Return the best limiter of this machine; `cores` is a fraction of one core, 0 to 1."""
    quota_us = int(PERIOD_US * cores)
    controllers = V2_ROOT / "cgroup.subtree_control"
    if controllers.exists() and "cpu" in controllers.read_text().split() and os.access(V2_ROOT, os.W_OK):
        return CgroupLimiter(V2_ROOT, {"cpu.max": f"{quota_us} {PERIOD_US}"}, "cgroup v2 cpu.max")
    if (V1_ROOT / "cpu.cfs_quota_us").exists() and os.access(V1_ROOT, os.W_OK):
        limits = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}
        return CgroupLimiter(V1_ROOT, limits, "cgroup v1 cpu.cfs_quota_us")
    return DutyCycleLimiter(cores)


@contextlib.contextmanager
def every_machine_limited(pid_files: Path, cores: float) -> Iterator[CpuLimiter]:
    """Limit, in the block, each process of a `*.pid` file in `pid_files`, also later ones."""
    limiter = make_limiter(cores)
    ended = threading.Event()
    limited: set[int] = set()

    def watch() -> None:
        while not ended.is_set():
            for file in pid_files.glob("*.pid"):
                with contextlib.suppress(OSError, ValueError):
                    pid = int(file.read_text())
                    if pid not in limited:
                        limiter.add(pid)
                        limited.add(pid)
            ended.wait(0.2)

    watcher = threading.Thread(target=watch, name="cpu-limit", daemon=True)
    watcher.start()
    try:
        yield limiter
    finally:
        ended.set()
        watcher.join()
        limiter.close()
