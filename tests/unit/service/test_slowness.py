# SPDX-License-Identifier: Apache-2.0
"""The slowness of a machine, from kernel counters and a reference task."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from attrs import define

from systemvm.service import slowness
from systemvm.service.slowness import KernelCounters, SlownessMeter, estimate_slowness, read_counters

_ORDINARY_S = 0.0005
_NO_COUNTERS = KernelCounters()


@define
class _Machine:
    """A machine whose speed and counters a test sets."""

    now_s: float = 0.0
    reference_s: float = _ORDINARY_S
    counters: KernelCounters = _NO_COUNTERS
    measurements: int = 0

    def meter(self) -> SlownessMeter:
        def reference_task() -> float:
            self.measurements += 1
            return self.reference_s

        return SlownessMeter(
            counters=lambda: self.counters,
            reference_task=reference_task,
            seconds=lambda: self.now_s,
            cpus=1,
        )


def test_ordinary_hardware_keeps_its_timeouts() -> None:
    found = _Machine().meter().snapshot()
    assert found.timeout_scale == 1.0
    assert not found.is_busy


def test_an_emulated_machine_is_slow_and_not_busy() -> None:
    found = _Machine(reference_s=4 * slowness.REFERENCE_NOMINAL_S).meter().snapshot()
    assert found.timeout_scale == 4.0
    assert not found.is_busy


def test_a_throttled_emulator_shows_although_the_guest_sees_no_steal() -> None:
    machine = _Machine(reference_s=4 * slowness.REFERENCE_NOMINAL_S)
    meter = machine.meter()
    meter.snapshot()
    machine.reference_s *= 5
    machine.now_s = slowness.MAX_AGE_S
    found = meter.snapshot()
    assert found.timeout_scale == 20.0
    assert found.is_busy


def test_steal_run_queue_delay_and_runnable_tasks_each_scale() -> None:
    before = KernelCounters(total_s=100.0)
    later = before._replace(total_s=110.0)

    def scale(now: KernelCounters) -> float:
        return round(estimate_slowness(before, now, _ORDINARY_S, _ORDINARY_S, cpus=2).timeout_scale, 6)

    assert scale(later) == 1.0
    assert scale(later._replace(steal_s=8.0)) == 5.0
    assert scale(later._replace(thread_run_s=1.0, thread_wait_s=2.0)) == 3.0
    assert scale(later._replace(runnable=8)) == 4.0


def test_the_scale_is_bounded() -> None:
    before, stolen = KernelCounters(), KernelCounters(steal_s=10.0, total_s=10.0)
    assert estimate_slowness(before, stolen, 100.0, _ORDINARY_S, cpus=1).timeout_scale == slowness.MAX_SCALE
    # the counters went back and the clock stood still
    backwards = estimate_slowness(stolen, before, 0.0, 0.0005, cpus=1)
    assert (backwards.timeout_scale, backwards.slowdown) == (1.0, 1.0)


def test_the_scale_rises_at_once_and_halves_slowly() -> None:
    machine = _Machine()
    meter = machine.meter()
    assert meter.timeout_scale() == 1.0
    machine.reference_s = 9 * slowness.REFERENCE_NOMINAL_S
    machine.now_s += slowness.MAX_AGE_S
    assert meter.timeout_scale() == 9.0
    machine.reference_s = _ORDINARY_S
    machine.now_s += slowness.HALF_LIFE_S
    assert meter.timeout_scale() == 5.0
    machine.now_s += slowness.HALF_LIFE_S
    assert meter.timeout_scale() == 3.0


def test_a_young_measurement_is_used_again() -> None:
    machine = _Machine()
    meter = machine.meter()
    for _ in range(100):
        meter.timeout_scale()
    assert machine.measurements == 1
    machine.now_s += slowness.MAX_AGE_S
    meter.timeout_scale()
    assert machine.measurements == 2


def test_the_kernels_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  100 0 50 700 50 0 0 100 0 0\ncpu0 1 2\n")
    (tmp_path / "loadavg").write_text("3.50 2.00 1.00 7/152 3900\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "self/schedstat").write_text("2000000000 500000000 17\n")
    found = read_counters(tmp_path)
    assert found.total_s == 10 * found.steal_s > 0
    assert (found.thread_run_s, found.thread_wait_s) == (2.0, 0.5)
    assert (found.runnable, found.load_1min) == (7, 3.5)


def test_files_that_a_sandbox_hides_count_as_zero(tmp_path: Path) -> None:
    assert read_counters(tmp_path) == KernelCounters()


def test_this_machine_can_be_measured() -> None:
    before = read_counters()
    slowness.run_reference_task()
    now = read_counters()
    assert now.runnable >= 1  # this test itself
    assert now.total_s > 0
    assert now.thread_run_s >= before.thread_run_s >= 0


def test_competing_threads_make_it_slower() -> None:
    """The threads compete for the GIL, which slows the reference task on any machine."""
    uncontended_s = min(slowness.run_reference_task() for _ in range(5))
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=spin) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        deadline_s = time.monotonic() + 60
        while max(slowness.run_reference_task() for _ in range(5)) < 2 * uncontended_s:
            assert time.monotonic() < deadline_s, "no slowness measured with four competing threads"
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_queue_that_stretches_the_reference_task_counts_once() -> None:
    before = KernelCounters()
    queued = KernelCounters(thread_run_s=1.0, thread_wait_s=4.0)
    found = estimate_slowness(
        before, queued, 5 * slowness.REFERENCE_NOMINAL_S, slowness.REFERENCE_NOMINAL_S, cpus=1
    )
    assert (found.timeout_scale, found.slowdown) == (5.0, 5.0)
