# SPDX-License-Identifier: Apache-2.0
"""`make bench-idle`: the CPU time of an idle cloud, and of one small download.

It boots the whole cloud, waits until it is idle, and reads the CPU time of both system VMs' QEMU processes
and of the daemon from /proc/PID/stat. The limits also apply without KVM, when guests are emulated.

usage: idle.py [--quiet-s N] [--minutes N] [--isos N]      exit code 1 when a limit is exceeded
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.report import report  # noqa: E402

ROOT = TOP / "build/idle-cloud"
ISO_BYTES = 1 << 20
READY_S = 600.0
POLL_S = 2.0
#: Percent of one core while the cloud gets no requests.
SYSTEM_VM_BAR, DAEMON_BAR = 3.0, 0.5

SSVM, CPVM, DAEMON = "SSVM", "CPVM", "daemon"


def cpu_s(stat: str) -> float:
    """Return the CPU seconds of all threads from the text of /proc/PID/stat: utime and stime (proc(5)).

    >>> cpu_s("7 (a b) c) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20") == 200 / os.sysconf("SC_CLK_TCK")
    True
    """
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows(idle_percent: Mapping[str, float], download_s: float) -> list[dict[str, Any]]:
    """Return one row for each metric: the result, the limit, and whether it holds."""
    bars = {SSVM: SYSTEM_VM_BAR, CPVM: SYSTEM_VM_BAR, DAEMON: DAEMON_BAR}
    table = [_row(f"idle {name}, % of a core", idle_percent[name], bar) for name, bar in bars.items()]
    return [*table, _row("download of a 1 MiB ISO, CPU s", download_s, None)]


def _row(metric: str, ours: float, bar: float | None) -> dict[str, Any]:
    """Return a row; a metric without a limit is only printed."""
    return {"metric": metric, "ours": round(ours, 2), "bar": bar, "holds": bar is None or ours <= bar}


class Processes:
    """The CPU time of the measured processes."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)

    def cpu_s(self) -> dict[str, float]:
        return {name: cpu_s(Path(f"/proc/{pid}/stat").read_text()) for name, pid in self._pids.items()}

    def during(self, action: Callable[[], None]) -> tuple[dict[str, float], float]:
        """Return the CPU seconds of each during `action`, and its duration in seconds."""
        before, began_s = self.cpu_s(), time.monotonic()
        action()
        took_s = time.monotonic() - began_s
        return {name: after - before[name] for name, after in self.cpu_s().items()}, took_s


def processes(lab: Any) -> Processes:
    """Return the QEMU processes of both system VMs and the daemon of a lab cloud."""
    run = lab.plan.layout.run / "qemu"
    pids = {DAEMON: lab.daemon_pid}
    for vm in lab.api.items("listSystemVms", "systemvm"):
        name = SSVM if vm["systemvmtype"] == "secondarystoragevm" else CPVM
        pids[name] = int((run / f"{vm['name']}.pid").read_text())
    return Processes(pids)


def download(lab: Any, count: int) -> None:
    """Register ISOs one after another, each when the previous one is Ready."""
    [zone] = lab.api.items("listZones", "zone")
    for number in range(count):
        name = f"idle-{number}"
        source = lab.plan.source_pages / f"{name}.iso"
        write_iso(source, name)
        url = f"{lab.plan.source_url}/{source.name}"
        lab.api.call("registerIso", name=name, displaytext=name, url=url, bootable=False, zoneid=zone["id"])
        deadline = time.monotonic() + READY_S
        while not (row := lab.api.items("listIsos", "iso", isofilter="self", name=name)[0])["isready"]:
            if time.monotonic() > deadline:
                raise SystemExit(f"error: {name} is not Ready after {READY_S:.0f} s: {row.get('status')}")
            time.sleep(POLL_S)


def write_iso(path: Path, seed: str) -> None:
    """Write a minimal ISO 9660 image: its primary volume descriptor (ECMA-119, 8.4)."""
    data = bytearray(ISO_BYTES)
    data[0x8000:0x8006] = b"\x01CD001"
    data[0x8006] = 1
    data[0x8028 : 0x8028 + 32] = seed.encode().ljust(32)[:32]
    data[0x8050:0x8058] = (ISO_BYTES // 2048).to_bytes(4, "little") + (ISO_BYTES // 2048).to_bytes(4, "big")
    data[0x8800:0x8807] = b"\xffCD001\x01"
    path.write_bytes(data)


def measure(
    quiet_s: float, minutes: float, isos: int, report: Callable[[str], None], inspect: Callable[[Any], None]
) -> tuple[dict[str, float], float]:
    """Return the percent of a core of each while idle, and the CPU seconds of a download.

    The cost of a download is the CPU time of the SSVM's QEMU process and the daemon, less that of an idle
    cloud in the same time. `inspect` is called with the idle cloud.
    """
    from free_ports import plan_with_free_ports
    from systemvm.lab.cloud import Cloud
    from systemvm.lab.teardown import reset

    plan = plan_with_free_ports(ROOT, TOP / "build")
    if plan.root.exists():
        reset(plan)
    plan.source_pages.mkdir(parents=True)
    with Cloud(plan) as lab:
        measured = processes(lab)
        report(f"both system VMs are Up; waiting {quiet_s:g} s until they are idle")
        time.sleep(quiet_s)
        used, took_s = measured.during(lambda: time.sleep(60 * minutes))
        idle = {name: 100 * seconds / took_s for name, seconds in used.items()}
        report(", ".join(f"{name} {share:.2f} %" for name, share in sorted(idle.items())))
        inspect(lab)
        used, took_s = measured.during(lambda: download(lab, isos))
        working_s = sum(max(0.0, used[name] - idle[name] / 100 * took_s) for name in (SSVM, DAEMON))
        report(f"{isos} ISOs in {took_s:.0f} s")
    return idle, working_s / isos


def main() -> int:
    from systemvm.service.sigint import restore_sigint

    restore_sigint()
    parser = argparse.ArgumentParser(
        description="Measure the CPU time of an idle cloud, and of one small download."
    )
    parser.add_argument(
        "--quiet-s",
        type=float,
        default=90.0,
        help="seconds of idling before the measurement (default: %(default)g)",
    )
    parser.add_argument(
        "--minutes", type=float, default=1.0, help="minutes of the measurement (default: %(default)g)"
    )
    parser.add_argument("--isos", type=int, default=3, help="ISOs to download (default: %(default)d)")
    options = parser.parse_args()
    idle, download_s = measure(
        options.quiet_s,
        options.minutes,
        options.isos,
        lambda text: print(f"bench: {text}", flush=True),
        lambda lab: None,
    )
    return report("idle", rows(idle, download_s), idle_percent=idle)


if __name__ == "__main__":
    sys.exit(main())
