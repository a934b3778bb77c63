# SPDX-License-Identifier: Apache-2.0
"""`make soak-memory`: the memory of the SSVM's resident processes over 10,000 downloads.

The SSVM's own processes run in network namespaces on this host, its agent among them, and this program is the
daemon. Each download is a small ISO. After every thousand it prints the resident memory of agent and fetch;
the slope is that of the line of least squares behind the first thousands, in which the processes begin to
remember as many jobs as they ever do.

usage: soak_memory.py [--jobs N]     needs root; exit code 1 when a limit is exceeded
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.download_footprint import row  # noqa: E402
from benchmark.in_reactor import need_root, run  # noqa: E402
from benchmark.report import report  # noqa: E402

STEP = 1000
#: Behind these, memory must not grow any more: each process remembers 512 jobs at most.
WARM_JOBS = 2000
AT_ONCE = 8
#: MiB, and MiB in a thousand jobs.
RSS_BAR, SLOPE_BAR = 80.0, 0.2
ISO_SECTORS, SECTOR_BYTES = 20, 2048


def write_iso(path: Path) -> None:
    """Write a minimal ISO 9660 image: its primary volume descriptor and the end of the set (ECMA-119, 8)."""
    data = bytearray(ISO_SECTORS * SECTOR_BYTES)
    data[0x8000:0x8007] = b"\x01CD001\x01"
    data[0x8028 : 0x8028 + 32] = b"soak".ljust(32)
    data[0x8050:0x8058] = ISO_SECTORS.to_bytes(4, "little") + ISO_SECTORS.to_bytes(4, "big")
    data[0x8800:0x8807] = b"\xffCD001\x01"
    path.write_bytes(data)


def slope(sizes: dict[int, float]) -> float:
    """Return the growth in a thousand jobs, by the sizes after so many jobs.

    >>> slope({2000: 70.0, 3000: 70.5, 4000: 71.0})
    0.5
    """
    if len(sizes) < 2:
        return 0.0
    return 1000 * statistics.linear_regression(list(sizes), list(sizes.values())).slope


def rows(sizes: dict[str, dict[int, float]]) -> list[dict[str, Any]]:
    """Return the rows of each process, by its sizes in MiB after so many jobs."""
    found = []
    for name, of_process in sizes.items():
        jobs = max(of_process)
        warm = {count: size for count, size in of_process.items() if count >= min(WARM_JOBS, jobs)}
        found += [
            row(f"{name} over {jobs} jobs, largest RSS", max(of_process.values()), RSS_BAR, "MiB"),
            {
                "metric": f"{name} from job {min(warm)} on, growth in 1,000 jobs",
                "ours": round(slope(warm), 3), "bar": SLOPE_BAR, "unit": "MiB",
                "holds": slope(warm) <= SLOPE_BAR,
            },
        ]  # fmt: skip
    return found


async def measure(reactor: Any, jobs: int) -> list[dict[str, Any]]:
    from benchmark.agent_process import ProcessDaemon
    from benchmark.download_load import DownloadLoad, memory_mib
    from integration.ssvm_lab.world import Builder
    from systemvm.wire.storage import ImageFormat

    sizes: dict[str, dict[int, float]] = {"agent": {}, "fetch": {}}
    limits = {"max_active_jobs": AT_ONCE, "initial_active_jobs": AT_ONCE}
    with (
        tempfile.TemporaryDirectory(prefix="soak-memory") as directory,
        Builder(Path(directory), store_size="2g", limits=limits) as world,
    ):
        write_iso(world.files / "small.iso")
        daemon = ProcessDaemon(reactor, Path(directory), world)
        load = DownloadLoad(reactor, world, daemon)
        try:
            await daemon.start()
            begun_s = time.monotonic()
            for done in range(0, jobs, STEP):
                count = min(STEP, jobs - done)
                await load.many("small.iso", ImageFormat.ISO, count, AT_ONCE)
                load.clear()
                pids = {"agent": [daemon.agent_pid], "fetch": world.fetch_pids()}
                for name, of_process in sizes.items():
                    of_process[done + count] = max(memory_mib(pid, "VmRSS") for pid in pids[name])
                now = ", ".join(f"{name} {each[done + count]:.1f} MiB" for name, each in sizes.items())
                print(f"{done + count} jobs after {time.monotonic() - begun_s:.0f} s: {now}", flush=True)
        finally:
            await daemon.close()
    return rows(sizes)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the memory of agent and fetch over many downloads.")
    parser.add_argument("--jobs", type=int, default=10_000, help="small downloads (default: %(default)s)")
    options = parser.parse_args()
    need_root()
    return report("soak-memory", run(lambda reactor: measure(reactor, options.jobs)))


if __name__ == "__main__":
    sys.exit(main())
