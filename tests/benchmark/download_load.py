# SPDX-License-Identifier: Apache-2.0
"""Downloads that keep an SSVM busy, and the memory of its processes meanwhile."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.world import SERVER, World
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.storage import DownloadState, ImageFormat

MAX_SIZE_BYTES = 1 << 30
TIMEOUT_S = 1200.0
BUSY_DELAY_S, SAMPLE_S = 0.5, 0.1
#: Templates that are removed from the store when so many have become Ready.
REMOVE_EVERY = 1000


def memory_mib(pid: int, key: str, file: str = "status") -> float:
    """Return a value of /proc/PID/status or smaps_rollup in MiB; 0 when the process has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
    return 0.0


class DownloadLoad:
    """Downloads from nginx of the lab's world."""

    def __init__(self, reactor: Any, world: World, daemon: Daemon) -> None:
        self._reactor = reactor
        self._world = world
        self._daemon = daemon
        self._templates = 1000

    def begin(
        self, file: str, image_format: ImageFormat = ImageFormat.RAW, scheme: str = "http"
    ) -> Deferred[None]:
        """Return a Deferred that fires when the template is Ready.

        It fails with SystemExit when the download fails.
        """
        self._templates += 1
        order = request(
            self._world, f"{scheme}://{SERVER}/{file}", image_format,
            template_id=self._templates, job_id=str(uuid.uuid4()), max_size_bytes=MAX_SIZE_BYTES,
        )  # fmt: skip
        return Deferred.fromCoroutine(self._until_ready(order))

    async def many(self, file: str, image_format: ImageFormat, count: int, at_once: int) -> None:
        """Download a small file `count` times, `at_once` of them side by side."""
        left = list(range(count))

        async def work() -> None:
            while left:
                if len(left) % REMOVE_EVERY == 0:
                    self.clear()
                left.pop()
                await self.begin(file, image_format)

        await gatherResults([Deferred.fromCoroutine(work()) for _ in range(at_once)], consumeErrors=True)

    def clear(self) -> None:
        """Remove all that is published, as if it had been deleted, and what the daemon has recorded."""
        shutil.rmtree(self._world.store / "template", ignore_errors=True)
        self._daemon.progress.clear()
        self._daemon.finished.clear()

    async def peak(self, ends: list[Deferred[None]], measure: Callable[[], float]) -> float:
        """Return the highest of the measurements until all downloads have ended."""
        peak = 0.0
        while not all(end.called for end in ends):
            peak = max(peak, measure())
            await self.sleep(SAMPLE_S)
        for end in ends:
            await end
        return peak

    async def sleep(self, delay_s: float) -> None:
        await deferLater(self._reactor, delay_s)

    async def _until_ready(self, order: Any) -> None:
        while True:
            try:
                status = await self._daemon.download(order, TIMEOUT_S)
            except RpcError as error:  # as the daemon does when this SSVM has no place
                if error.reason != "busy":
                    raise
                await self.sleep(BUSY_DELAY_S)
                continue
            if status.state is not DownloadState.DOWNLOADED:
                raise SystemExit(f"error: download failed: {status.error}")
            return
