# SPDX-License-Identifier: Apache-2.0
"""`make bench-footprint`: memory of movers and agent, and how late their reactors are beside downloads.

The SSVM's own processes run in network namespaces on this host, as in bench-download. A store that does not
answer is made by stopping movers and the store's helper: their callers see what they see of a hung server.
The agent is this process, with the daemon's side in it.

usage: download_footprint.py [--jobs N] [--stall-s N]     needs root; exit code 1 when a limit is exceeded
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]

from attrs import define, field  # noqa: E402

from systemvm.wire.storage import DownloadState, ImageFormat  # noqa: E402

RESULT = TOP / "build/bench/footprint.json"
MIB = 1 << 20
DISK_BYTES, PACED_BYTES, LARGE_BYTES = 64 * MIB, 8 * MIB, 512 * MIB
TIMEOUT_S = 1200.0
AT_ONCE = 8
#: MiB.
MOVER_BAR, ALL_BAR, AGENT_BAR, GROWTH_BAR = 40.0, 1024.0, 80.0, 2.0
LATENESS_BAR_MS = 10.0
MAX_JOBS = 32
EVERY_S = 0.01
#: Until then the agent remembers more and more jobs.
WARM_JOBS = 700


def row(metric: str, ours: float, bar: float, unit: str) -> dict[str, Any]:
    """Return a row; a limit is the most that holds.

    >>> row("agent", 81.04, 80.0, "MiB")["holds"]
    False
    """
    return {"metric": metric, "ours": round(ours, 1), "bar": bar, "unit": unit, "holds": ours <= bar}


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of all do not exceed.

    >>> percentile([3.0, 1.0, 2.0, 4.0], 0.75)
    3.0
    """
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def memory_mib(pid: int, key: str, file: str = "status") -> float:
    """Return a value of /proc/PID/status or smaps_rollup in MiB; 0 when the process has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
    return 0.0


@define
class Lateness:
    """How many seconds after their time the calls of a reactor come."""

    reactor: Any
    late_s: list[float] = field(factory=list)
    is_running: bool = True

    def start(self) -> Lateness:
        self._later()
        return self

    def _later(self) -> None:
        due_s = self.reactor.seconds() + EVERY_S

        def called() -> None:
            self.late_s.append(self.reactor.seconds() - due_s)
            if self.is_running:
                self._later()

        self.reactor.callLater(EVERY_S, called)


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


class Footprint:
    """The measurements, one after another on one SSVM."""

    def __init__(self, reactor: Any, world: Any, daemon: Any) -> None:
        self._reactor = reactor
        self._world = world
        self._daemon = daemon
        self._templates = 1000
        self._most_movers = 0

    async def movers(self) -> list[dict[str, Any]]:
        """Measure the largest mover of each compression, and all processes beside 32 jobs."""
        disk = os.urandom(MIB) * (DISK_BYTES // MIB)
        for name, content in (
            ("raw", disk),
            ("gz", gzip.compress(disk, 1)),
            ("xz", lzma.compress(disk, preset=6)),
            ("paced", disk[:PACED_BYTES]),
        ):
            (self._world.files / f"disk.{name}").write_bytes(content)
        found = []
        for name in ("raw", "gz", "xz"):
            ends = [self._download(f"disk.{name}") for _ in range(2)]
            peak = await self._sample(ends, self._largest_mover)
            found.append(row(f"mover of a disk in {name}, peak RSS", peak, MOVER_BAR, "MiB"))
        ends = [self._download("disk.paced", "paced/") for _ in range(MAX_JOBS)]
        peak = await self._sample(ends, self._all_processes)
        metric = f"all processes, {MAX_JOBS} jobs, {self._most_movers} at a time"
        return [*found, row(f"{metric}, peak PSS", peak, ALL_BAR, "MiB")]

    async def agent(self, jobs: int) -> list[dict[str, Any]]:
        """Measure the agent after many small downloads."""
        (self._world.files / "small.raw").write_bytes(os.urandom(4096))
        sizes = []
        for count in (min(WARM_JOBS, jobs), max(0, jobs - WARM_JOBS)):
            await self._many("small.raw", count)
            self._daemon.progress.clear()
            self._daemon.finished.clear()
            sizes.append(memory_mib(os.getpid(), "VmRSS"))
        fetch = max(memory_mib(pid, "VmRSS") for pid in self._world.fetch_pids())
        return [
            row(f"agent after {jobs} jobs, RSS", sizes[1], AGENT_BAR, "MiB"),
            row(f"agent, growth since job {WARM_JOBS}", sizes[1] - sizes[0], GROWTH_BAR, "MiB"),
            row(f"fetch after {jobs} jobs, RSS", fetch, AGENT_BAR, "MiB"),
        ]

    async def lateness(self, stall_s: float) -> list[dict[str, Any]]:
        """Measure the reactors beside jobs at full speed, and while movers and helper do not answer."""
        with (self._world.files / "large.raw").open("wb") as file:
            for _ in range(LARGE_BYTES // (16 * MIB)):
                file.write(os.urandom(16 * MIB))
        ends = [self._download("large.raw") for _ in range(AT_ONCE)]
        agent, fetch = Lateness(self._reactor).start(), _FetchAnswers(self._reactor, self._world)
        await fetch.start()
        await self._sleep(5.0)
        with stopped([*self._world.mover_pids(), *self._world.helper_pids()]):
            await self._sleep(stall_s)
        for end in ends:
            await end
        agent.is_running = fetch.is_running = False
        return [
            row("agent, p99 lateness", 1000 * percentile(agent.late_s, 0.99), LATENESS_BAR_MS, "ms"),
            row("fetch, p99 of an answer", 1000 * percentile(fetch.took_s, 0.99), LATENESS_BAR_MS, "ms"),
        ]

    def _download(self, file: str, place: str = "") -> Any:
        from twisted.internet.defer import Deferred

        from integration.ssvm_lab.daemon import request
        from integration.ssvm_lab.world import SERVER

        self._templates += 1
        order = request(
            self._world, f"http://{SERVER}/{place}{file}", ImageFormat.RAW,
            template_id=self._templates, job_id=str(uuid.uuid4()), max_size_bytes=2 * LARGE_BYTES,
        )  # fmt: skip
        return Deferred.fromCoroutine(self._until_ready(order))

    async def _until_ready(self, order: Any) -> None:
        from systemvm.rpc.core.errors import RpcError

        while True:
            try:
                status = await self._daemon.download(order, TIMEOUT_S)
            except RpcError as error:  # as the daemon does when this SSVM has no place
                if error.reason != "busy":
                    raise
                await self._sleep(0.5)
                continue
            if status.state is not DownloadState.DOWNLOADED:
                raise SystemExit(f"error: download failed: {status.error}")
            return

    async def _many(self, file: str, count: int) -> None:
        from twisted.internet.defer import Deferred, gatherResults

        left = list(range(count))

        async def work() -> None:
            while left:
                left.pop()
                await self._download(file)

        await gatherResults([Deferred.fromCoroutine(work()) for _ in range(AT_ONCE)], consumeErrors=True)

    async def _sample(self, ends: list[Any], measure: Any) -> float:
        """Return the highest of the measurements until all downloads have ended."""
        peak = 0.0
        while not all(end.called for end in ends):
            peak = max(peak, measure())
            await self._sleep(0.1)
        for end in ends:
            await end
        return peak

    def _largest_mover(self) -> float:
        return max((memory_mib(pid, "VmHWM") for pid in self._world.mover_pids()), default=0.0)

    def _all_processes(self) -> float:
        world = self._world
        movers = world.mover_pids()
        self._most_movers = max(self._most_movers, len(movers))
        pids = [*movers, *world.fork_server_pids(), *world.fetch_pids(), *world.helper_pids()]
        return sum(memory_mib(pid, "Pss", "smaps_rollup") for pid in pids)

    async def _sleep(self, delay_s: float) -> None:
        from twisted.internet.task import deferLater

        await deferLater(self._reactor, delay_s)


class _FetchAnswers:
    """How long fetch takes to answer a call, again and again."""

    def __init__(self, reactor: Any, world: Any) -> None:
        self._reactor = reactor
        self._path = world.paths.fetch_socket
        self.took_s: list[float] = []
        self.is_running = True

    async def start(self) -> None:
        from twisted.internet.defer import Deferred

        from systemvm.rpc.core.method import MethodTable
        from systemvm.rpc.stream.unix_stream import connect_unix_stream
        from systemvm.ssvm.agent.fetch_connection import FETCH

        peer = await connect_unix_stream(
            self._reactor, self._path, MethodTable("bench", "test"), remote=FETCH
        )
        Deferred.fromCoroutine(self._ask(peer))

    async def _ask(self, peer: Any) -> None:
        from twisted.internet.task import deferLater

        from systemvm.ssvm.fetch_messages import HELLO, FetchHello

        while self.is_running:
            begun_s = self._reactor.seconds()
            await peer.call(HELLO, result=FetchHello, deadline_s=60.0)
            self.took_s.append(self._reactor.seconds() - begun_s)
            await deferLater(self._reactor, EVERY_S)
        peer.close("the benchmark ends")


async def measure(reactor: Any, jobs: int, stall_s: float) -> list[dict[str, Any]]:
    from integration.ssvm_lab.daemon import Daemon
    from integration.ssvm_lab.world import Builder

    found: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-footprint") as directory,
        Builder(Path(directory), store_size="10g") as world,
    ):
        daemon = await Daemon(Path(directory), world).start()
        try:
            footprint = Footprint(reactor, world, daemon)
            print(f"{jobs} small jobs", flush=True)
            found += await footprint.agent(jobs)
            print("movers", flush=True)
            found += await footprint.movers()
            print(f"{AT_ONCE} jobs at full speed, {stall_s:g} s without the store", flush=True)
            found += await footprint.lateness(stall_s)
        finally:
            await daemon.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure memory and lateness beside downloads.")
    parser.add_argument("--jobs", type=int, default=2000, help="small downloads (default: %(default)s)")
    parser.add_argument(
        "--stall-s", type=float, default=30.0, help="seconds without the store (default: %(default)g)"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("error: network namespaces cannot be made: run as root")
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor, task
    from twisted.internet.defer import Deferred

    table: list[dict[str, Any]] = []

    async def work() -> None:
        table.extend(await measure(reactor, options.jobs, options.stall_s))

    def begin(_: Any) -> Deferred[None]:
        coroutine: Coroutine[Deferred[Any], Any, None] = work()
        return Deferred.fromCoroutine(coroutine)

    try:
        task.react(begin)
    except SystemExit as end:
        if end.code:
            raise
    print(f"{'metric':56} {'ours':>12} {'bar':>8}")
    for each in table:
        holds = "holds" if each["holds"] else "does not hold"
        print(f"{each['metric']:56} {each['ours']:8} {each['unit']:3} {each['bar']:8}  {holds}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"rows": table}, indent=1) + "\n")
    return 0 if all(each["holds"] for each in table) else 1


if __name__ == "__main__":
    sys.exit(main())
