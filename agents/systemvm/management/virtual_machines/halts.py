# SPDX-License-Identifier: Apache-2.0
"""Finds VMs that wait because their storage is full, says so, and has them go on.

QEMU halts a machine whose write finds no room (its `werror=enospc`), and makes the write again when it is
told to continue: as long as there is no room, the machine is halted again, and nothing is lost.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.virtual_machines import transitions
from systemvm.service.periodic import Periodic

INTERVAL_S = 15.0
#: QEMU's run state (RunState of its QAPI).
_IO_ERROR = "io-error"


class HaltedMachines:
    """Asks QEMU every `interval_s` about each VM of a user that runs."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        hypervisor: Hypervisor,
        *,
        host_id: int,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._database = database
        self._hypervisor = hypervisor
        self._host_id = host_id
        self._halted: set[int] = set()
        self._loop = Periodic(clock, self.look, interval_s, what="find halted machines")

    def start(self) -> None:
        self._loop.start(now=False)

    def stop(self) -> None:
        self._loop.stop()

    async def look(self) -> None:
        """Note which VMs are halted or go on, and try each halted one again."""
        running = await self._database.read(instances.running_of_users, self._host_id)
        self._halted &= {vm.id for vm in running}
        for vm in running:
            try:
                await self._look_at(vm)
            except HypervisorError as error:
                self._log.debug("{why}", why=error.message)  # it ends, or does not answer now

    async def _look_at(self, vm: Instance) -> None:
        if await self._hypervisor.condition(vm.instance_name) == _IO_ERROR:
            if vm.id not in self._halted:
                await self._database.run(transitions.set_halted, vm.id)
                self._halted.add(vm.id)
            await self._hypervisor.resume(vm.instance_name)
        elif vm.id in self._halted:
            await self._database.run(transitions.set_resumed, vm.id)
            self._halted.discard(vm.id)
