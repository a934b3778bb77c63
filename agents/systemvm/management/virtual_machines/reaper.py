# SPDX-License-Identifier: Apache-2.0
"""Expunges destroyed machines after their delay (CloudStack's expunge.interval and expunge.delay)."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.service.periodic import Periodic


class MachineExpunger(Protocol):
    """Expunges one machine."""

    async def expunge_if_due(self, vm_id: int) -> bool: ...


class ExpungeReaper:
    """Runs one pass at the start and one every `interval_s`, never two at a time.

    Due times are in the database, so that a pass after a restart also finds machines that are half expunged.
    A pass costs one query and the work for the machines that are due.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        machines: MachineExpunger,
        *,
        host_id: int,
        interval_s: float,
    ) -> None:
        self._database = database
        self._machines = machines
        self._host_id = host_id
        self._loop = Periodic(clock, self.expunge_due, interval_s, what="expunge destroyed machines")

    def start(self) -> None:
        self._loop.start(now=True)

    def stop(self) -> None:
        self._loop.stop()

    async def expunge_due(self) -> int:
        """Expunge what is due and return how many; a machine that fails stays due for the next pass."""
        expunged = 0
        for vm_id in await self._database.read(instances.due_for_expunge, self._host_id):
            try:
                expunged += await self._machines.expunge_if_due(vm_id)
            except Exception:
                self._log.failure("cannot expunge machine {id}", id=vm_id)
        return expunged
