# SPDX-License-Identifier: Apache-2.0
"""Locks for virtual machines: one operation at a time on each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from twisted.internet.defer import DeferredLock

from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance

K = TypeVar("K", bound=Hashable)


class PerVmLock(Generic[K]):
    """A lock for each VM, by the key with which `read` finds its row.

    `check` raises when the row does not belong to the service.
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
        """Hold the lock of a VM and yield its row, read under the lock."""
        async with self._locks.setdefault(key, DeferredLock()):
            vm = await self._database.read(self._read, key)
            self._check(vm)
            yield vm

    def forget(self, key: K) -> None:
        """Drop the lock of a removed VM; operations that wait for it still get it."""
        self._locks.pop(key, None)
