# SPDX-License-Identifier: Apache-2.0
"""Measures how slow this machine is at present, so that timeouts against hangs scale with it.

Four cheap sources, none of them a timer: a fixed piece of interpreted code, compared with its time on
ordinary hardware (detects emulation and a throttled hypervisor, which report no steal time); steal time
(`/proc/stat`); the run-queue delay of the main thread (`schedstat`); and the number of runnable tasks per CPU
(`/proc/loadavg`). None of them counts tasks in uninterruptible sleep: a hung NFS server does not make a
machine look slow. Sources: proc(5), the kernel's Documentation/scheduler/sched-stats.rst.

Only the standard library is imported, because programs of early boot use this, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

#: The present factor for timeouts.
TimeoutScale = Callable[[], float]
#: The bounds of `timeout_scale`; a slower machine counts as hung.
MIN_SCALE, MAX_SCALE = 1.0, 30.0
#: A measurement is reused until it is this old.
MAX_AGE_S = 5.0
#: The scale rises at once; the part above 1 halves in this time.
HALF_LIFE_S = 30.0
#: At this slowdown a machine counts as busy.
BUSY_SLOWDOWN = 3.0
#: A machine counts as slow when the reference task takes longer: present hardware needs a fifth of it, an
#: emulated guest (TCG) on an idle host several times as much.
REFERENCE_NOMINAL_S = 0.0025
_REFERENCE_ROUNDS = 5_000
_SHORTEST_RUN_S = 0.001  # the run-queue delay of a thread that hardly ran is not significant


class KernelCounters(NamedTuple):
    """Counters of the kernel; one that cannot be read stays 0."""

    steal_s: float = 0.0  # of all CPUs
    total_s: float = 0.0  # of all CPUs
    thread_run_s: float = 0.0
    thread_wait_s: float = 0.0  # runnable, but waiting for a CPU
    runnable: int = 0  # tasks, at this moment
    load_1min: float = 0.0


class Slowness(NamedTuple):
    """How slow the machine is: the factor for timeouts, how busy it is, and the measurements behind it."""

    timeout_scale: float = 1.0  # 1 to 30
    slowdown: float = 1.0  # how many times slower than this same machine at its best, 1 to 30
    load_1min: float = 0.0
    steal: float = 0.0  # share of CPU time that the hypervisor gave to other guests, 0 to 1
    run_queue_delay: float = 0.0  # share of its runnable time that this thread waited, 0 to 1
    reference: float = 1.0  # duration of the reference task; 1 is slow but ordinary hardware

    @property
    def is_busy(self) -> bool:
        """Whether other work slows it down, as opposed to a machine that is always slow (emulated)."""
        return self.slowdown >= BUSY_SLOWDOWN


def read_counters(proc: Path = Path("/proc")) -> KernelCounters:
    """Read the counters of the kernel; files that a sandbox hides count as 0."""
    tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
    cpu = _read_fields(proc / "stat")[1:9]  # user nice system idle iowait irq softirq steal
    ticks = [int(field) for field in cpu] if len(cpu) == 8 else [0] * 8
    run = _read_fields(proc / "self/schedstat")
    run_ns, wait_ns = (int(run[0]), int(run[1])) if len(run) >= 2 else (0, 0)
    load = _read_fields(proc / "loadavg")
    return KernelCounters(
        steal_s=ticks[7] * tick_s,
        total_s=sum(ticks) * tick_s,
        thread_run_s=run_ns / 1e9,
        thread_wait_s=wait_ns / 1e9,
        runnable=int(load[3].partition("/")[0]) if len(load) > 3 else 0,
        load_1min=float(load[0]) if load else 0.0,
    )


def _read_fields(path: Path) -> list[str]:
    """Return the fields of a file's first line; none when it cannot be read."""
    try:
        with path.open() as file:
            return file.readline().split()
    except OSError:
        return []


def run_reference_task() -> float:
    """Do a fixed amount of interpreted work; return its duration in seconds."""
    began_s = time.perf_counter()
    value = 0
    for number in range(_REFERENCE_ROUNDS):
        value = (value * 1_103_515_245 + number) & 0x7FFFFFFF
    return time.perf_counter() - began_s


def estimate_slowness(
    before: KernelCounters, now: KernelCounters, reference_s: float, best_reference_s: float, cpus: int
) -> Slowness:
    """Return the slowness by the counters of an interval and one run of the reference task, unsmoothed.

    `best_reference_s` is the shortest run of the reference task on this machine so far.

    >>> idle = KernelCounters(total_s=100.0)
    >>> judge(idle, idle._replace(total_s=110.0, steal_s=5.0), 0.001, 0.001, cpus=2).timeout_scale
    2.0
    """
    steal = _share(now.steal_s - before.steal_s, now.total_s - before.total_s)
    run_s = max(now.thread_run_s - before.thread_run_s, _SHORTEST_RUN_S)
    wait_s = max(now.thread_wait_s - before.thread_wait_s, 0.0)
    contention = max(
        1.0,
        1.0 / (1.0 - min(steal, 0.99)),
        (run_s + wait_s) / run_s,
        now.runnable / max(cpus, 1),
    )
    reference = reference_s / REFERENCE_NOMINAL_S
    by_nature = max(best_reference_s / REFERENCE_NOMINAL_S, 1.0)
    return Slowness(
        # contention also slows the reference task: the larger counts, not the product
        timeout_scale=min(max(reference, by_nature * contention), MAX_SCALE),
        slowdown=min(max(reference_s / best_reference_s, contention), MAX_SCALE),
        load_1min=now.load_1min,
        steal=round(steal, 3),
        run_queue_delay=round(wait_s / (run_s + wait_s), 3),
        reference=round(reference, 2),
    )


def _share(part: float, whole: float) -> float:
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0


class SlownessMeter:
    """Measures only when a result is requested and the last one is old: it costs nothing otherwise.

    Not locked: threads that measure at the same time replace each other's result by an equivalent one.
    """

    def __init__(
        self,
        *,
        counters: Callable[[], KernelCounters] = read_counters,
        reference_task: Callable[[], float] = run_reference_task,
        seconds: Callable[[], float] = time.monotonic,
        cpus: int | None = None,
    ) -> None:
        self._counters = counters
        self._reference_task = reference_task
        self._seconds = seconds
        self._cpus = cpus or os.cpu_count() or 1
        self._before: KernelCounters | None = None
        self._best_reference_s = float("inf")
        self._last = Slowness()
        self._measured_s = 0.0

    def timeout_scale(self) -> float:
        """Return the factor for timeouts, 1 to 30."""
        return self.snapshot().timeout_scale

    def snapshot(self) -> Slowness:
        """Return the newest measurement, at most `MAX_AGE_S` old."""
        now_s = self._seconds()
        if self._before is None or now_s - self._measured_s >= MAX_AGE_S:
            self._measure(now_s)
        return self._last

    def _measure(self, now_s: float) -> None:
        reference_s = self._reference_task()
        self._best_reference_s = min(self._best_reference_s, reference_s)
        counters = self._counters()
        found = estimate_slowness(
            self._before or counters, counters, reference_s, self._best_reference_s, self._cpus
        )
        remains = 0.5 ** ((now_s - self._measured_s) / HALF_LIFE_S)
        self._before, self._measured_s = counters, now_s
        self._last = found._replace(
            timeout_scale=_smoothed(found.timeout_scale, self._last.timeout_scale, remains),
            slowdown=_smoothed(found.slowdown, self._last.slowdown, remains),
        )


def _smoothed(found: float, last: float, remains: float) -> float:
    """Rise at once, fall slowly: `remains` is the share of the last excess that still counts."""
    return round(max(found, MIN_SCALE + (last - MIN_SCALE) * remains), 2)


def unscaled() -> float:
    """Return the scale of ordinary hardware."""
    return MIN_SCALE


#: Shared by this process, as the machine has one speed; tests use meters of their own.
METER = SlownessMeter()


def timeout_scale() -> float:
    """Return the factor for timeouts of this process that guard against hangs."""
    return METER.timeout_scale()


def scaled_s(timeout_s: float) -> float:
    """Return a timeout in seconds, scaled to the present speed of this machine."""
    return timeout_s * METER.timeout_scale()
