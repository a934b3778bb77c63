# SPDX-License-Identifier: Apache-2.0
"""Measures single downloads of ours and of peers for bench-download."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from benchmark.download_peers import Cost
from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.world import SERVER, World
from systemvm.wire.storage import DownloadState, ImageFormat

DOWNLOAD_TIMEOUT_S = 600.0
MAX_SIZE_BYTES = 4 << 30


class DownloadBench:
    """The SSVM's processes, and a directory on the same file system for the peers."""

    def __init__(self, reactor: Any, directory: Path, world: World, run_peer: Callable[..., Cost]) -> None:
        self._reactor = reactor
        self._world = world
        self._run_peer = run_peer
        self.daemon = Daemon(directory, world)
        self._sums: dict[str, str] = {}
        self._templates = 200
        self._ca = directory / "ca.pem"

    async def start(self) -> DownloadBench:
        self._ca.write_text(self._world.ca_pem)
        await self.daemon.start()
        return self

    async def stop(self) -> None:
        await self.daemon.close()

    async def peer(self, script: str, scheme: str, file: str) -> Cost:
        """Run a peer's script, and remove its files."""
        directory = self._world.store / "peer"
        directory.mkdir()
        variables = {"url": f"{scheme}://{SERVER}/{file}", "ca": str(self._ca), "sum": self._sum(file)}
        cost: Cost = await deferToThread(
            self._run_peer, script, directory, self._world.vm_namespace, variables
        )
        shutil.rmtree(directory)
        return cost

    async def ours(self, scheme: str, file: str, image_format: ImageFormat) -> Cost:
        """Download one template until it is published, and remove it."""
        return await self.many(scheme, file, image_format, 1, 1)

    async def many(self, scheme: str, file: str, image_format: ImageFormat, count: int, at_once: int) -> Cost:
        """Download `count` templates, `at_once` of them side by side."""
        checksum = self.checksum(file)
        begun_s, cpu_s = time.monotonic(), self.cpu_s()
        left = list(range(count))

        async def work() -> None:
            while left:
                left.pop()
                self._templates += 1
                status = await self.daemon.download(
                    request(
                        self._world, f"{scheme}://{SERVER}/{file}", image_format, checksum=checksum,
                        template_id=self._templates, job_id=str(uuid.uuid4()), max_size_bytes=MAX_SIZE_BYTES,
                    ),
                    DOWNLOAD_TIMEOUT_S,
                )  # fmt: skip
                if status.state is not DownloadState.DOWNLOADED:
                    raise SystemExit(f"error: download failed: {status.error}")

        await gatherResults([Deferred.fromCoroutine(work()) for _ in range(at_once)], consumeErrors=True)
        cost = Cost(time.monotonic() - begun_s, self.cpu_s() - cpu_s)
        self.clear()
        return cost

    def clear(self) -> None:
        """Remove all that is published."""
        shutil.rmtree(self._world.store / "template")

    def checksum(self, file: str) -> str:
        """Return the checksum of a file as a request names it."""
        return "{SHA-256}" + self._sum(file)

    def _sum(self, file: str) -> str:
        if file not in self._sums:
            with (self._world.files / file).open("rb") as opened:
                self._sums[file] = hashlib.file_digest(opened, "sha256").hexdigest()
        return self._sums[file]

    def cpu_s(self) -> float:
        """CPU of the agent, which is this process, and of the others with their children, the movers."""
        mine = resource.getrusage(resource.RUSAGE_SELF)
        helpers = self._world.helper_pids()
        ours = [*self._world.fetch_pids(), *self._world.fork_server_pids(), *self._world.serve_pids()]
        pids = [*ours, *helpers]
        ticks = sum(_ticks(pid) for pid in pids)
        return mine.ru_utime + mine.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    """utime and stime, with those of children that were waited for (proc_pid_stat(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended since it was found: its parent has its time
    return sum(int(field) for field in fields[11:15])
