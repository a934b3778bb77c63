# SPDX-License-Identifier: Apache-2.0
"""`make bench-download`: a download from a URL to a Ready template, compared with command lines for it.

Ours is the SSVM's own processes in network namespaces on this host, without a VM: agent, fetch, mover and
the store's helper, from the daemon's call to the published template. The peers run in the same namespace,
download from the same nginx and write to the same tmpfs. They alternate in one run. A ratio is the median of
peer divided by ours over the rounds, so 2 means that ours takes half the time. CPU seconds are those of the
clients, without nginx.

usage: download.py [--rounds N] [--only NAME]     needs root; exit code 1 when a limit is not met
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from attrs import frozen  # noqa: E402

from benchmark.download_peers import PEERS, Cost, run_peer  # noqa: E402
from benchmark.in_reactor import need_root, run  # noqa: E402
from benchmark.report import report  # noqa: E402
from systemvm.wire.storage import ImageFormat  # noqa: E402

GIB, MIB = 1 << 30, 1 << 20
STORE_MIB = 9 * 1024
SMALL_ISOS, SMALL_AT_ONCE = 1000, 8
#: What a download of 1 MiB may take on top of `curl; sha256sum; mv`, and how many a second must be Ready.
MAX_OVERHEAD_MS, MIN_ISOS_PER_S = 150.0, 20.0


@frozen
class Scenario:
    """One file, and the least ratio to each peer."""

    name: str
    file: str
    format: ImageFormat
    scheme: str
    bars: dict[str, float]


SCENARIOS = (
    Scenario(
        "2 GiB raw, HTTP", "plain.raw", ImageFormat.RAW, "http",
        {"curl; sha256sum": 3.0, "curl; openssl": 1.3, "aria2c -x4": 1.5},
    ),
    Scenario(
        "2 GiB raw, TLS 1.3", "plain.raw", ImageFormat.RAW, "https",
        {"curl; openssl": 1.1, "aria2c -x4": 1.25},
    ),
    Scenario(
        "1 GiB raw in gzip, HTTP", "disk.raw.gz", ImageFormat.RAW, "http",
        {"curl; sha256sum; gunzip; qemu-img": 3.5, "curl; openssl; igzip; qemu-img": 1.7},
    ),
    Scenario(
        "800 MB qcow2, HTTP", "disk.qcow2", ImageFormat.QCOW2, "http",
        {"curl; sha256sum; qemu-img": 3.0},
    ),
)  # fmt: skip


def make_files(directory: Path) -> None:
    """Write what nginx serves: random sectors, a quarter zeros where a disk would have some."""
    with (directory / "plain.raw").open("wb") as file:
        for _ in range(2 * GIB // (16 * MIB)):
            file.write(os.urandom(16 * MIB))
    text = os.urandom(48 * 1024).hex().encode()  # compresses to a half, as programs do
    with (directory / "disk.raw").open("wb") as file:
        for number in range(GIB // MIB):
            if number % 4 == 3:
                file.write(bytes(MIB))
            else:
                file.write(os.urandom(MIB // 8))
                file.write((number.to_bytes(8) + text * 10)[: MIB - MIB // 8])
    with (directory / "disk.raw").open("rb") as raw, gzip.open(directory / "disk.raw.gz", "wb", 6) as packed:
        shutil.copyfileobj(raw, packed, MIB)
    qcow2 = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(directory / "disk.raw")]
    subprocess.run([*qcow2, str(directory / "disk.qcow2")], check=True)
    small = directory / "small"
    small.mkdir()
    (small / "readme").write_bytes(os.urandom(512 * 1024))
    subprocess.run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-o", str(directory / "small.iso"), str(small)],
        check=True, capture_output=True,
    )  # fmt: skip
    shutil.rmtree(small)


async def compare(bench: Any, scenario: Scenario, rounds: int) -> list[dict[str, Any]]:
    """Run ours and each peer alternately; return a row for each peer."""
    ours: list[Cost] = []
    peers: dict[str, list[Cost]] = {name: [] for name in scenario.bars}
    for number in range(rounds):
        turns = ["", *scenario.bars]
        for name in turns[number % len(turns) :] + turns[: number % len(turns)]:
            if name:
                peers[name].append(await bench.peer(PEERS[name], scenario.scheme, scenario.file))
            else:
                ours.append(await bench.ours(scenario.scheme, scenario.file, scenario.format))
    return [ratio_row(scenario.name, ours, name, costs, scenario.bars[name]) for name, costs in peers.items()]


def ratio_row(metric: str, ours: list[Cost], name: str, peer: list[Cost], bar: float) -> dict[str, Any]:
    """Return a row; the ratio is the median of those of the rounds."""
    ratio = statistics.median(theirs.wall_s / mine.wall_s for theirs, mine in zip(peer, ours, strict=True))
    return {
        "metric": metric, "peer": name, "unit": "s",
        "ours": round(statistics.median(cost.wall_s for cost in ours), 2),
        "theirs": round(statistics.median(cost.wall_s for cost in peer), 2),
        "ours_cpu_s": round(statistics.median(cost.cpu_s for cost in ours), 2),
        "theirs_cpu_s": round(statistics.median(cost.cpu_s for cost in peer), 2),
        "ratio": round(ratio, 2), "bar": bar, "holds": ratio >= bar,
    }  # fmt: skip


async def small_isos(bench: Any, rounds: int) -> list[dict[str, Any]]:
    """Measure single ISOs of 1 MiB alternately with the peer, then a thousand of them."""
    ours: list[Cost] = []
    peer: list[Cost] = []
    for _ in range(4 * rounds):
        peer.append(await bench.peer(PEERS["curl; sha256sum; mv"], "http", "small.iso"))
        ours.append(await bench.ours("http", "small.iso", ImageFormat.ISO))
    added_ms = 1000 * statistics.median(
        mine.wall_s - theirs.wall_s for mine, theirs in zip(ours, peer, strict=True)
    )
    many = await bench.many("http", "small.iso", ImageFormat.ISO, SMALL_ISOS, SMALL_AT_ONCE)
    rate = SMALL_ISOS / many.wall_s
    one = ratio_row("1 MiB ISO, on top of the peer (ms)", ours, "curl; sha256sum; mv", peer, MAX_OVERHEAD_MS)
    return [
        one | {"ratio": round(added_ms, 1), "holds": added_ms <= MAX_OVERHEAD_MS},
        {
            "metric": f"{SMALL_ISOS} ISOs of 1 MiB, Ready a second", "peer": "", "unit": "/s",
            "ours": round(many.wall_s, 2), "theirs": "", "ours_cpu_s": round(many.cpu_s, 2),
            "theirs_cpu_s": "", "ratio": round(rate, 1), "bar": MIN_ISOS_PER_S,
            "holds": rate >= MIN_ISOS_PER_S,
        },
    ]  # fmt: skip


async def measure(reactor: Any, rounds: int, only: str) -> list[dict[str, Any]]:
    from benchmark.download_bench import DownloadBench
    from integration.ssvm_lab.world import Builder

    with tempfile.TemporaryDirectory(prefix="bench-download") as directory:
        with Builder(Path(directory), store_size=f"{STORE_MIB}m") as world:
            print("making the files to download", flush=True)
            make_files(world.files)
            bench = await DownloadBench(reactor, Path(directory), world, run_peer).start()
            try:
                rows: list[dict[str, Any]] = []
                for scenario in SCENARIOS:
                    if only in scenario.name:
                        print(f"{scenario.name}: {rounds} rounds", flush=True)
                        rows += await compare(bench, scenario, rounds)
                if only in "1 MiB ISO":
                    print(f"1 MiB ISO: one at a time, then {SMALL_ISOS}", flush=True)
                    rows += await small_isos(bench, rounds)
            finally:
                await bench.stop()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare downloads with the command lines for them.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="NAME", help="scenarios whose name contains this")
    options = parser.parse_args()
    need_root()
    rows = run(lambda reactor: measure(reactor, options.rounds, options.only), "asyncio")
    return report("download", rows, rounds=options.rounds)


if __name__ == "__main__":
    sys.exit(main())
