# SPDX-License-Identifier: Apache-2.0
"""`make bench-idle`: what a cloud costs that has nothing to do, and what one small download costs.

Boots the whole cloud, waits until it is quiet, and takes the CPU time of both system VMs' QEMU processes and
of the daemon from /proc/PID/stat. The bars hold without KVM, where a guest's every instruction is emulated.

usage: idle.py [--quiet-s N] [--minutes N] [--isos N]      exit code 1 when a bar does not hold
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

RESULT = TOP / "build/bench/idle.json"
ROOT = TOP / "build/idle-cloud"
ISO_BYTES = 1 << 20
READY_S = 600.0
POLL_S = 2.0
#: Percent of one core while nothing is asked of the cloud.
SYSTEM_VM_BAR, DAEMON_BAR = 3.0, 0.5

SSVM, CPVM, DAEMON = "SSVM", "CPVM", "daemon"


def cpu_s(stat: str) -> float:
    """CPU seconds of /proc/PID/stat's text, all threads: utime and stime (proc(5)), in clock ticks.

    >>> cpu_s("7 (a b) c) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20") == 200 / os.sysconf("SC_CLK_TCK")
    True
    """
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows(idle_percent: Mapping[str, float], download_s: float) -> list[dict[str, Any]]:
    """One row a metric: ours, the bar, and whether it holds."""
    bars = {SSVM: SYSTEM_VM_BAR, CPVM: SYSTEM_VM_BAR, DAEMON: DAEMON_BAR}
    table = [_row(f"idle {who}, % of a core", idle_percent[who], bar) for who, bar in bars.items()]
    return [*table, _row("download of a 1 MiB ISO, CPU s", download_s, None)]


def _row(metric: str, ours: float, bar: float | None) -> dict[str, Any]:
    """A metric without a limit is printed for comparison."""
    return {"metric": metric, "ours": round(ours, 2), "bar": bar, "holds": bar is None or ours <= bar}


class Processes:
    """The CPU time of the measured processes."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)

    def cpu_s(self) -> dict[str, float]:
        return {who: cpu_s(Path(f"/proc/{pid}/stat").read_text()) for who, pid in self._pids.items()}

    def during(self, action: Callable[[], None]) -> tuple[dict[str, float], float]:
        """Return the CPU seconds of each during `action`, and its duration in seconds."""
        before, began_s = self.cpu_s(), time.monotonic()
        action()
        took_s = time.monotonic() - began_s
        return {who: after - before[who] for who, after in self.cpu_s().items()}, took_s


def processes(lab: Any) -> Processes:
    """Return the QEMU processes of both system VMs and the daemon of a lab cloud."""
    run = lab.plan.layout.run / "qemu"
    pids = {DAEMON: lab.daemon_pid}
    for vm in lab.api.items("listSystemVms", "systemvm"):
        who = SSVM if vm["systemvmtype"] == "secondarystoragevm" else CPVM
        pids[who] = int((run / f"{vm['name']}.pid").read_text())
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
    """Return a minimal ISO 9660 image: its primary volume descriptor (ECMA-119, 8.4)."""
    data = bytearray(ISO_BYTES)
    data[0x8000:0x8006] = b"\x01CD001"
    data[0x8006] = 1
    data[0x8028 : 0x8028 + 32] = seed.encode().ljust(32)[:32]
    data[0x8050:0x8058] = (ISO_BYTES // 2048).to_bytes(4, "little") + (ISO_BYTES // 2048).to_bytes(4, "big")
    data[0x8800:0x8807] = b"\xffCD001\x01"
    path.write_bytes(data)


def measure(
    quiet_s: float, minutes: float, isos: int, say: Callable[[str], None], look: Callable[[Any], None]
) -> tuple[dict[str, float], float]:
    """Percent of a core of each while idle, and CPU seconds of a download; `look` sees the idle cloud.

    A download costs what the SSVM's QEMU process and the daemon use, less what they use at rest.
    """
    from systemvm.lab.cloud import Cloud
    from systemvm.lab.plan import LabPlan
    from systemvm.lab.teardown import reset

    with socket.create_server(("127.0.0.1", 0)) as page, socket.create_server(("127.0.0.1", 0)) as console:
        ports = page.getsockname()[1], console.getsockname()[1]
    plan = LabPlan(root=ROOT, build=TOP / "build", page_port=ports[0], console_port=ports[1])
    if plan.root.exists():
        reset(plan)
    plan.source_pages.mkdir(parents=True)
    with Cloud(plan) as lab:
        measured = processes(lab)
        say(f"both system VMs are Up; {quiet_s:g} s for them to come to rest")
        time.sleep(quiet_s)
        used, took_s = measured.during(lambda: time.sleep(60 * minutes))
        idle = {who: 100 * seconds / took_s for who, seconds in used.items()}
        say(", ".join(f"{who} {share:.2f} %" for who, share in sorted(idle.items())))
        look(lab)
        used, took_s = measured.during(lambda: download(lab, isos))
        working_s = sum(max(0.0, used[who] - idle[who] / 100 * took_s) for who in (SSVM, DAEMON))
        say(f"{isos} ISOs in {took_s:.0f} s")
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
    table = rows(idle, download_s)
    print(f"\n{'metric':36}{'ours':>8}{'bar':>8}  holds")
    for row in table:
        bar = "" if row["bar"] is None else f"{row['bar']:.2f}"
        print(f"{row['metric']:36}{row['ours']:8.2f}{bar:>8}  {'yes' if row['holds'] else 'NO'}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"idle_percent": idle, "rows": table}, indent=1) + "\n")
    return 0 if all(row["holds"] for row in table) else 1


if __name__ == "__main__":
    sys.exit(main())
