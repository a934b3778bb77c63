# SPDX-License-Identifier: Apache-2.0
"""`make soak-busy`: an hour of downloads and kills on system VMs with a fifth of a core each.

Twenty registrations are open at any time. At the end no download was lost or repeated, each became Ready or
failed because of a kill, and the median of the guest's load average is below its limit.

usage: soak_busy.py [--minutes N] [--seed S]      exit code 1 when a check failed
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.report import result_file  # noqa: E402

ROOT = TOP / "build/soak-busy-cloud"
HEALTH_EVERY_S = 30.0
#: Between two kills, so that work takes most of the time, and not recovery.
BETWEEN_KILLS_S = (60.0, 180.0)


def report(text: str) -> None:
    print(f"soak: {text}", flush=True)


def soak(minutes: float, seed: int) -> dict[str, Any]:
    """Run a cloud with limited VMs.

    Raises: AssertionError when a check failed.
    """
    from free_ports import plan_with_free_ports
    from soak.cpu_limit import every_machine_limited
    from soak.downloads import Downloads
    from soak.slow_machine import CORES, MAX_LOAD, REGISTRATIONS, SIZE_BYTES, SlowMachineRun
    from soak.victims import Victims, kills, random_order
    from systemvm.lab.cloud import Cloud
    from systemvm.lab.teardown import reset

    chance = random.Random(seed)
    plan = plan_with_free_ports(ROOT, TOP / "build")
    if plan.root.exists():
        reset(plan)
    plan.source_pages.mkdir(parents=True)
    report(f"{minutes:g} minutes, seed {seed}; booting")
    loads: list[float] = []
    waiting: list[int] = []
    ended = threading.Event()
    with Cloud(plan) as lab, every_machine_limited(plan.layout.run / "qemu", CORES) as limiter:
        scale = 1.0 / CORES
        report(f"both system VMs are Up; {CORES:g} of a core each by {limiter.name}")
        downloads = Downloads(
            lab, f"busy-{seed}", at_once=REGISTRATIONS, size_mib=SIZE_BYTES >> 20, settle_s=3600.0
        )
        observer = SlowMachineRun(lab, "unused", report)

        def sample() -> None:
            while not ended.wait(HEALTH_EVERY_S):
                try:
                    health = observer.health()
                except OSError:  # the daemon was just killed
                    continue
                waiting.append(downloads.waiting)
                if health is not None:
                    loads.append(float(health["load_1min"]))
                    ready = len(downloads.ready_after_s)
                    report(f"guest load {loads[-1]:.1f}, {waiting[-1]} waiting, {ready} Ready")

        sampler = threading.Thread(target=sample, name="load", daemon=True)
        downloads.start()
        sampler.start()
        victims = Victims(lab, chance, report, timeout_scale=scale)
        done: list[Any] = []
        end_s = time.monotonic() + 60.0 * minutes
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, chance.uniform(*BETWEEN_KILLS_S)))  # work between two kills
            done += kills(victims, random_order(1, chance), lambda: None, report)
        downloads.stop()
        downloads.settle(report)
        ended.set()
        sampler.join()
        summary = downloads.summary({kill.kind.title for kill in done})
        victims.wait_all_up()
    shutil.rmtree(ROOT / "secondary", ignore_errors=True)
    took = sorted(downloads.ready_after_s)
    result = {
        "minutes": minutes,
        "seed": seed,
        "limiter": limiter.name,
        "kills": [[kill.kind.title, kill.victim, round(kill.recovery_s, 1)] for kill in done],
        "downloads": summary,
        "ready_after_s": {"p50": statistics.median(took), "max": took[-1]} if took else {},
        "guest_load": {"p50": statistics.median(loads), "max": max(loads)} if loads else {},
        "waiting_max": max(waiting, default=0),
    }
    assert took, "nothing became Ready"
    assert loads, "the guest's load was never measured"
    # the median: a boot or a restart of the agent raises the load for a minute or two
    assert statistics.median(loads) < MAX_LOAD, f"the guest's load average is too high: {result}"
    return result


def main() -> int:
    from systemvm.service.sigint import restore_sigint

    restore_sigint()
    parser = argparse.ArgumentParser(description="Run downloads and kills on VMs with a fifth of a core.")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="duration in minutes (default: %(default)g)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed gives the same kills (default: %(default)d)"
    )
    options = parser.parse_args()
    try:
        result = soak(options.minutes, options.seed)
    except AssertionError as error:
        report(f"failed: {error}")
        report(f"logs: {ROOT}/lab/log and {ROOT}/var/lib/systemvm/log")
        return 1
    result_file("soak-busy").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
