# SPDX-License-Identifier: Apache-2.0
"""`make soak-control`: random kills of agent, worker, daemon, VM and NFS server during downloads.

After each kill everything must be Up again in time. At the end no download was lost or repeated, and no file
is left without an owner. The same seed makes the same kills.

usage: soak_control.py [--kills N] [--seed S]      exit code 1 when a check failed
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.report import result_file  # noqa: E402

ROOT = TOP / "build/soak-cloud"


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]


def table(kills: list[Any]) -> list[dict[str, Any]]:
    """Return recovery times by kind, and of all kinds."""
    rows = []
    kinds = {kill.kind.title for kill in kills}
    for title in [*sorted(kinds), "all"]:
        took = [kill.recovery_s for kill in kills if title in (kill.kind.title, "all")]
        rows.append(
            {
                "killed": title,
                "times": len(took),
                "p50_s": round(statistics.median(took), 1),
                "p95_s": round(percentile(took, 0.95), 1),
                "max_s": round(max(took), 1),
            }
        )
    return rows


def report(text: str) -> None:
    print(f"soak: {text}", flush=True)


def soak(count: int, seed: int) -> dict[str, Any]:
    """Run a cloud, the kills and the final check.

    Raises: AssertionError when a check failed.
    """

    from free_ports import plan_with_free_ports
    from soak.downloads import Downloads, machines_of
    from soak.victims import Kind, Victims, kills, one_of_each, random_order
    from systemvm.lab.cloud import Cloud
    from systemvm.lab.teardown import reset

    chance = random.Random(seed)
    plan = plan_with_free_ports(ROOT, TOP / "build")
    if plan.root.exists():
        reset(plan)
    plan.source_pages.mkdir(parents=True)
    report(f"{count} kills, seed {seed}; booting")
    with Cloud(plan) as lab:
        downloads = Downloads(lab, f"soak-{seed}")
        downloads.start()
        victims = Victims(lab, chance)

        def before() -> None:
            downloads.wait_for_progress()
            time.sleep(chance.uniform(0.0, 2.0))  # any moment of a download

        order = [*one_of_each(chance), *random_order(max(0, count - len(Kind)), chance)][:count]
        began_s = time.monotonic()
        done = kills(victims, order, before, report)
        took_s = time.monotonic() - began_s
        downloads.stop()
        downloads.settle(report)
        summary = downloads.summary({kill.kind.title for kill in done})
        victims.wait_all_up()
        machines = machines_of(lab)
        assert len(machines) == len(set(machines)) == 2, f"machines that run: {machines}"
    shutil.rmtree(ROOT / "secondary", ignore_errors=True)
    return {
        "seed": seed,
        "kills": len(done),
        "took_s": round(took_s, 1),
        "rows": table(done),
        "downloads": summary,
        "each": [[kill.kind.title, kill.victim, round(kill.recovery_s, 2)] for kill in done],
    }


def main() -> int:
    from systemvm.service.sigint import restore_sigint

    restore_sigint()
    parser = argparse.ArgumentParser(description="Kill parts of a cloud at random during downloads.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        result = soak(options.kills, options.seed)
    except AssertionError as error:
        report(f"failed: {error}")
        report(f"logs: {ROOT}/lab/log and {ROOT}/var/lib/systemvm/log")
        return 1
    print(f"\n{'killed':14}{'times':>6}{'p50, s':>9}{'p95, s':>9}{'max, s':>9}")
    for row in result["rows"]:
        print(f"{row['killed']:14}{row['times']:6}{row['p50_s']:9.1f}{row['p95_s']:9.1f}{row['max_s']:9.1f}")
    downloads = result["downloads"]
    print(
        f"\n{result['kills']} kills in {result['took_s'] / 60:.0f} min; {downloads['registered']} downloads, "
        f"{downloads['ready']} Ready, {len(downloads['failed'])} failed because of a kill"
    )
    for name, why in downloads["failed"].items():
        print(f"  {name}: {why}")
    result_file("soak-control").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
