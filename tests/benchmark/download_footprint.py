# SPDX-License-Identifier: Apache-2.0
"""`make bench-footprint`: memory of movers and all processes, and how late the reactors are beside downloads.

The SSVM's own processes run in network namespaces on this host, as in bench-download; its agent is a process,
too, and this program is the daemon at its other end. A store that does not answer is made by stopping movers
and the store's helper: their callers see what they see of a hung server.

The gate that admits fewer downloads on a busy machine is open: all that a measurement names run at once.

usage: download_footprint.py [--stall-s N] [--only NAME]     needs root; exit code 1 when a limit is exceeded
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import lzma
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from benchmark.in_reactor import need_root, run  # noqa: E402
from benchmark.report import report  # noqa: E402

TIMED = Path(__file__).with_name("timed_program.py")
MIB = 1 << 20
DISK_BYTES, SHARED_DISK_BYTES, LARGE_BYTES = 48 * MIB, 24 * MIB, 512 * MIB
XZ_DICTIONARY_BYTES, ZSTD_WINDOW_LOG = 8 * MIB, 23
AT_ONCE, MAX_JOBS = 8, 32
#: MiB.
MOVER_BAR, ALL_BAR, PIECE_BYTES = 40.0, 1024.0, 4 * MIB
LATENESS_BAR_MS = 10.0
#: How long downloads run at full speed before the store stops to answer.
FULL_SPEED_S = 10.0
SECTIONS = ("movers", "jobs", "lateness")


def row(metric: str, ours: float, bar: float, unit: str) -> dict[str, Any]:
    """Return a row; a limit is the most that holds.

    >>> row("agent", 81.04, 80.0, "MiB")["holds"]
    False
    """
    return {"metric": metric, "ours": round(ours, 1), "bar": bar, "unit": unit, "holds": ours <= bar}


def jobs_row(at_once: int, peak_mib: float) -> dict[str, Any]:
    """Return the row of all processes, which does not hold when the jobs did not run at the same time."""
    found = row(f"all processes, {at_once} of {MAX_JOBS} jobs at once, peak PSS", peak_mib, ALL_BAR, "MiB")
    return found | {"holds": found["holds"] and at_once == MAX_JOBS}


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of all do not exceed.

    >>> percentile([3.0, 1.0, 2.0, 4.0], 0.75)
    3.0
    """
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Stop processes in the block."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def make_files(directory: Path, server: str) -> None:
    """Write disks that decompress slowly, so that a mover's buffers are full, in all compressions."""
    import zstandard

    disk = os.urandom(DISK_BYTES // 2).hex().encode()
    zstd = zstandard.ZstdCompressionParameters.from_level(3, window_log=ZSTD_WINDOW_LOG)
    for name, content in (
        ("raw", disk),
        ("gz", gzip.compress(disk, 1)),
        ("xz", xz(disk)),
        ("zst", zstandard.ZstdCompressor(compression_params=zstd).compress(disk)),
        ("shared.xz", xz(disk[:SHARED_DISK_BYTES])),
    ):
        (directory / f"disk.{name}").write_bytes(content)
    for name, disk_name, scheme in (
        ("raw", "disk.raw", "http"),
        ("xz", "disk.xz", "http"),
        ("secure", "disk.xz", "https"),
    ):
        (directory / f"{name}.meta4").write_text(metalink(directory / disk_name, f"{scheme}://{server}"))
    with (directory / "large.raw").open("wb") as file:
        for _ in range(LARGE_BYTES // (16 * MIB)):
            file.write(os.urandom(16 * MIB))


def xz(content: bytes) -> bytes:
    """Compress with the dictionary of `xz -6`, and fast: its size is what a decoder needs memory for."""
    return lzma.compress(
        content, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": XZ_DICTIONARY_BYTES}]
    )


def metalink(file: Path, origin: str) -> str:
    """Return a Metalink (RFC 5854) of a file at a server, with the digests of its pieces."""
    content = file.read_bytes()
    digests = "".join(
        f"<hash>{hashlib.sha256(content[start : start + PIECE_BYTES]).hexdigest()}</hash>"
        for start in range(0, len(content), PIECE_BYTES)
    )
    return (
        '<metalink xmlns="urn:ietf:params:xml:ns:metalink">'
        f'<file name="{file.name}"><size>{len(content)}</size>'
        f'<hash type="sha-256">{hashlib.sha256(content).hexdigest()}</hash>'
        f'<pieces length="{PIECE_BYTES}" type="sha-256">{digests}</pieces>'
        f"<url>{origin}/{file.name}</url></file></metalink>"
    )


class Footprint:
    """The measurements, one after another on one SSVM; `timed` are the files of its timed programs."""

    def __init__(self, load: Any, world: Any, daemon: Any, timed: dict[str, Path]) -> None:
        self._load = load
        self._world = world
        self._daemon = daemon
        self._timed = timed
        self._most_movers = 0

    async def movers(self) -> list[dict[str, Any]]:
        """Measure the largest mover of each kind of file."""
        found = []
        for scheme, file, what in (
            ("http", "disk.raw", "a disk in raw"),
            ("https", "disk.raw", "a disk in raw, over TLS"),
            ("http", "capped/disk.raw", "a raw disk over several connections"),
            ("http", "disk.gz", "a disk in gzip"),
            ("http", "disk.xz", "a disk in xz, 8 MiB dictionary"),
            ("https", "disk.xz", "a disk in xz, 8 MiB dictionary, over TLS"),
            ("http", "disk.zst", "a disk in zstd, 8 MiB window"),
            ("http", "raw.meta4", "a raw disk in pieces of 4 MiB"),
            ("http", "xz.meta4", "a disk in xz in pieces of 4 MiB"),
            ("https", "secure.meta4", "a disk in xz in pieces of 4 MiB, over TLS"),
        ):
            ends = [self._load.begin(file, scheme=scheme) for _ in range(2)]
            peak = await self._load.peak(ends, self._largest_mover)
            found.append(row(f"mover of {what}, peak RSS", peak, MOVER_BAR, "MiB"))
            self._load.clear()
        return found

    async def jobs(self) -> list[dict[str, Any]]:
        """Measure all processes beside as many jobs as there can be, with the largest movers."""
        ends = [self._load.begin("disk.shared.xz") for _ in range(MAX_JOBS)]
        peak = await self._load.peak(ends, self._all_processes)
        self._load.clear()
        return [jobs_row(self._most_movers, peak)]

    async def lateness(self, stall_s: float) -> list[dict[str, Any]]:
        """Measure the reactors beside jobs at full speed, and while movers and helper do not answer."""
        ends = [self._load.begin("large.raw") for _ in range(AT_ONCE)]
        begun_s = time.monotonic()
        while sum(end.called for end in ends) < AT_ONCE // 2 and time.monotonic() < begun_s + FULL_SPEED_S:
            await self._load.sleep(0.1)
        stalled_s = time.monotonic()
        with stopped([*self._world.mover_pids(), *self._world.helper_pids()]):
            await self._load.sleep(stall_s)
        going_on_s = time.monotonic()
        for end in ends:
            await end
        return self._lateness_rows(begun_s, stalled_s, going_on_s, time.monotonic())

    def _lateness_rows(self, *times_s: float) -> list[dict[str, Any]]:
        from benchmark.timed_program import lateness_s

        begun_s, stalled_s, going_on_s, ended_s = times_s
        found = []
        for name, file in self._timed.items():
            full_speed = lateness_s(file, begun_s, stalled_s) + lateness_s(file, going_on_s, ended_s)
            for when, late_s in (
                (f"{AT_ONCE} jobs at full speed", full_speed),
                ("store stalled", lateness_s(file, stalled_s, going_on_s)),
            ):
                late_ms = 1000 * percentile(late_s, 0.99)
                metric = f"{name}, {when}, p99 lateness of {len(late_s)} calls"
                found.append(row(metric, late_ms, LATENESS_BAR_MS, "ms"))
        return found

    def _largest_mover(self) -> float:
        from benchmark.download_load import memory_mib

        return max((memory_mib(pid, "VmHWM") for pid in self._world.mover_pids()), default=0.0)

    def _all_processes(self) -> float:
        from benchmark.download_load import memory_mib

        world = self._world
        movers = world.mover_pids()
        self._most_movers = max(self._most_movers, len(movers))
        others = [*world.fork_server_pids(), *world.fetch_pids(), *world.helper_pids()]
        pids = [self._daemon.agent_pid, *others, *movers]
        return sum(memory_mib(pid, "Pss", "smaps_rollup") for pid in pids)


async def measure(reactor: Any, stall_s: float, only: str) -> list[dict[str, Any]]:
    from benchmark.agent_process import ProcessDaemon
    from benchmark.download_load import DownloadLoad
    from integration.ssvm_lab.world import SERVER, Builder

    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench-footprint") as directory:
        timed = {name: Path(directory) / f"{name}.timed" for name in ("agent", "fetch")}
        by = {name: (str(TIMED), str(file)) for name, file in timed.items()}
        limits = {"max_active_jobs": MAX_JOBS, "initial_active_jobs": MAX_JOBS}
        with Builder(Path(directory), store_size="10g", limits=limits, fetch_by=by["fetch"]) as world:
            print("making the files to download", flush=True)
            make_files(world.files, SERVER)
            daemon = ProcessDaemon(reactor, Path(directory), world, by["agent"])
            try:
                await daemon.start()
                footprint = Footprint(DownloadLoad(reactor, world, daemon), world, daemon, timed)
                sections: dict[str, Callable[[], Coroutine[Any, Any, list[dict[str, Any]]]]] = {
                    "movers": footprint.movers,
                    "jobs": footprint.jobs,
                    "lateness": lambda: footprint.lateness(stall_s),
                }
                for name in SECTIONS:
                    if only in name:
                        print(name, flush=True)
                        found += await sections[name]()
            finally:
                await daemon.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure memory and lateness beside downloads.")
    parser.add_argument(
        "--stall-s", type=float, default=30.0, help="seconds without the store (default: %(default)g)"
    )
    parser.add_argument("--only", default="", metavar="NAME", help=f"one of {', '.join(SECTIONS)}")
    options = parser.parse_args()
    need_root()
    return report("footprint", run(lambda reactor: measure(reactor, options.stall_s, options.only)))


if __name__ == "__main__":
    sys.exit(main())
