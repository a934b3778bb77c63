# SPDX-License-Identifier: Apache-2.0
"""Virtual machines taken in turns: whoever does something to one waits for who is at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from twisted.internet.defer import DeferredLock

from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance

K = TypeVar("K", bound=Hashable)


class PerVmLock(Generic[K]):
    """One turn at a time for each VM, by the key that `read` finds its row with.

    `check` raises when the row is none for the service whose turns these are.
    """

    def __init__(
        self,
        database: Database,
        read: Callable[[Connection, K], Instance],
        check: Callable[[Instance], None],
    ) -> None:
        self._database = database
        self._read = read
        self._check = check
        self._locks: dict[K, DeferredLock] = {}

    @asynccontextmanager
    async def acquire(self, key: K) -> AsyncIterator[Instance]:
        """The VM's row, read when nothing else is being done to it."""
        async with self._locks.setdefault(key, DeferredLock()):
            vm = await self._database.read(self._read, key)
            self._check(vm)
            yield vm

    def forget(self, key: K) -> None:
        """The VM is gone; who waits for it still gets a turn."""
        self._locks.pop(key, None)
