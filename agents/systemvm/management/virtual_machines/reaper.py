# SPDX-License-Identifier: Apache-2.0
"""Expunges destroyed machines when their time is over (CloudStack's expunge.interval and expunge.delay)."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.service.periodic import Periodic


class Machines(Protocol):
    """Who expunges one machine."""

    async def expunge_if_due(self, vm_id: int) -> bool: ...


class ExpungeReaper:
    """One pass at the start and one every `interval_s`; never two at a time.

    Due times are in the database, so a pass after a restart finds what the last daemon left, half done or
    not. A pass costs one query and what is due.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, database: Database, machines: Machines, *, host_id: int, interval_s: float
    ) -> None:
        self._database = database
        self._machines = machines
        self._host_id = host_id
        self._loop = Periodic(clock, self.expunge_due, interval_s, what="expunging destroyed machines")

    def start(self) -> None:
        self._loop.start(now=True)

    def stop(self) -> None:
        self._loop.stop()

    async def expunge_due(self) -> int:
        """Expunge what is due; how many. One that fails stays due and is tried in the next pass."""
        expunged = 0
        for vm_id in await self._database.read(instances.due_for_expunge, self._host_id):
            try:
                expunged += await self._machines.expunge_if_due(vm_id)
            except Exception:
                self._log.failure("machine {id} could not be expunged", id=vm_id)
        return expunged
