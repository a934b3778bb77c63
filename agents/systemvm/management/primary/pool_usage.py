# SPDX-License-Identifier: Apache-2.0
"""How full the pools are. A server that hangs delays nobody: its pool counts as down until it answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from systemvm.management.primary.pools import PoolDirectories
from systemvm.management.state.storage_pools import StoragePool
from systemvm.service.slowness import scaled_s

TIMEOUT_S = 10.0


@frozen
class DiskUsage:
    """Size of a file system in bytes."""

    total_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.used_bytes


#: The usage of each pool that this host can use, by the pool's number; None of one that is down.
Usages = dict[int, DiskUsage | None]


def disk_usage(directory: Path) -> DiskUsage | None:
    """Return the usage of a directory's file system; None when it cannot be read. It blocks."""
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return None
    return DiskUsage(usage.total, usage.used)


class PoolUsage:
    """Measures pools, each at most once at a time: who asks meanwhile gets the same answer."""

    def __init__(self, clock: IReactorTime, directories: PoolDirectories) -> None:
        self._clock = clock
        self._directories = directories
        #: Who waits, by the pool's UUID (one that is created has no number yet); nobody when it hangs.
        self._running: dict[str, list[Deferred[DiskUsage | None]]] = {}

    async def of(self, pools: Iterable[StoragePool]) -> Usages:
        """Return the usage of pools, which are measured at the same time."""
        waiting = {pool.id: self._ask(pool) for pool in pools}
        return {pool_id: await usage for pool_id, usage in waiting.items()}

    def _ask(self, pool: StoragePool) -> Deferred[DiskUsage | None]:
        """Return the usage; None after a time, and at once while such a measurement has not ended."""
        running = self._running.get(pool.uuid)
        if running is not None and not running:
            return succeed(None)
        answer: Deferred[DiskUsage | None] = Deferred()
        if running is None:
            self._start(pool, answer)
        else:
            running.append(answer)
        return answer

    def _start(self, pool: StoragePool, first: Deferred[DiskUsage | None]) -> None:
        waiting = self._running[pool.uuid] = [first]

        def give(usage: DiskUsage | None) -> None:
            answers, waiting[:] = list(waiting), []
            for answer in answers:
                answer.callback(usage)

        def ended(result: DiskUsage | Failure | None) -> None:
            del self._running[pool.uuid]
            if timeout.active():
                timeout.cancel()
                give(None if isinstance(result, Failure) else result)

        timeout = self._clock.callLater(scaled_s(TIMEOUT_S), give, None)
        measured: Deferred[Any] = Deferred.fromCoroutine(self._measure(pool))
        measured.addBoth(ended)

    async def _measure(self, pool: StoragePool) -> DiskUsage | None:
        directory = await self._directories.prepare(pool)
        return await deferToThread(disk_usage, directory)
