# SPDX-License-Identifier: Apache-2.0
"""`make bench-clone`: a machine's disk as a linked clone of its template, compared with a copy by qemu-img.

Ours is the primary storage of the daemon, from its call to the disk's name in its directory. The peer is
`qemu-img convert; sync FILE` of the same template: both are durable then. They alternate in one run, on the
file system of `build/`. A ratio is the median of peer divided by ours. Written is what the disk's file takes
of the file system.

usage: clone.py [--rounds N] [--mib N]     needs qemu-img; exit code 1 when a limit is not met
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from attrs import frozen  # noqa: E402

from benchmark.in_reactor import run  # noqa: E402
from benchmark.report import report, result_file  # noqa: E402

MIB = 1 << 20
#: The least ratio to a copy, and the most that a clone may write.
MIN_RATIO, MAX_WRITTEN_MIB = 20.0, 1.0


@frozen
class Disk:
    """What one disk of a machine cost."""

    wall_s: float
    written_mib: float


def rows(clones: list[Disk], copies: list[Disk], mib: int) -> list[dict[str, Any]]:
    """Return the two rows: time relative to a copy, and what is written."""
    ratio = statistics.median(copy.wall_s / clone.wall_s for copy, clone in zip(copies, clones, strict=True))
    written_mib = max(clone.written_mib for clone in clones)
    return [
        {
            "metric": f"linked clone of {mib} MiB (ms), ratio of a copy",
            "ours": round(statistics.median(clone.wall_s for clone in clones) * 1000, 1),
            "peer": round(statistics.median(copy.wall_s for copy in copies) * 1000, 1),
            "ratio": round(ratio, 1), "bar": MIN_RATIO, "holds": ratio >= MIN_RATIO,
        },
        {
            "metric": "written (MiB)",
            "ours": round(written_mib, 2),
            "peer": round(max(copy.written_mib for copy in copies), 2),
            "ratio": None, "bar": MAX_WRITTEN_MIB, "holds": written_mib <= MAX_WRITTEN_MIB,
        },
    ]  # fmt: skip


def make_template(directory: Path, mib: int) -> Path:
    """Write a QCOW2 image whose clusters all have data."""
    raw, template = directory / "template.raw", directory / "template.qcow2"
    with raw.open("wb") as file:
        for _ in range(mib // 16):
            file.write(os.urandom(16 * MIB))
    subprocess.run(
        ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", str(raw), str(template)], check=True
    )
    raw.unlink()
    return template


def take(path: Path, begun_s: float) -> Disk:
    """Return what this disk cost, and delete it."""
    wall_s = time.monotonic() - begun_s
    written_bytes = path.stat().st_blocks * 512  # stat(2): blocks of 512 bytes, whatever the file system has
    path.unlink()
    os.sync()  # what a copy has written must not burden the next clone
    return Disk(wall_s, written_bytes / MIB)


def copy(directory: Path, template: Path) -> Disk:
    target = directory / "copy.qcow2"
    begun_s = time.monotonic()
    subprocess.run(
        ["qemu-img", "convert", "-q", "-f", "qcow2", "-O", "qcow2", str(template), str(target)], check=True
    )
    subprocess.run(["sync", str(target)], check=True)
    return take(target, begun_s)


async def measure(rounds: int, mib: int) -> list[dict[str, Any]]:
    from systemvm.management.primary.storage import PrimaryStorage

    clones: list[Disk] = []
    copies: list[Disk] = []
    with tempfile.TemporaryDirectory(prefix="clone", dir=result_file("clone").parent) as name:
        directory = Path(name)
        storage = PrimaryStorage(directory / "primary")
        storage.open()
        source, template_uuid = make_template(directory, mib), str(uuid.uuid4())
        template = await storage.ensure_template(template_uuid, source, "qcow2")
        source.unlink()
        for _ in range(rounds):
            begun_s = time.monotonic()
            disk = await storage.create_clone(str(uuid.uuid4()), template, "qcow2")
            clones.append(take(disk, begun_s))
            copies.append(copy(directory, template))
    return rows(clones, copies, mib)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare linked clones with copies by qemu-img.")
    parser.add_argument("--rounds", type=int, default=5, help="disks of each (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=2048, help="size of the template (default: %(default)s)")
    options = parser.parse_args()
    table = run(lambda reactor: measure(options.rounds, options.mib), "asyncio")
    return report("clone", table, rounds=options.rounds)


if __name__ == "__main__":
    sys.exit(main())
