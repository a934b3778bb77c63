# SPDX-License-Identifier: Apache-2.0
"""Finds VMs that wait because their storage is full, says so, and has them go on.

QEMU halts a machine whose write finds no room (its `werror=enospc`), and makes the write again when it is
told to continue: as long as there is no room, the machine is halted again, and nothing is lost.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.virtual_machines import transitions
from systemvm.management.virtual_machines.exit_reasons import DISK_FULL
from systemvm.service.periodic import Periodic
from systemvm.service.single_flight import SingleFlight

INTERVAL_S = 15.0
#: QEMU's run state (RunState of its QAPI).
_IO_ERROR = "io-error"


class HaltedMachines:
    """Asks QEMU every `interval_s` about each VM of a user that runs.

    One whose QEMU hangs delays no other, and is asked again when that has answered or was given up.
    """

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
        self._asked: SingleFlight[int] = SingleFlight()
        self._loop = Periodic(clock, self.look, interval_s, what="find halted machines")

    def start(self) -> None:
        self._loop.start(now=False)

    def stop(self) -> None:
        self._loop.stop()

    async def look(self) -> None:
        """Have each VM asked, without waiting for the answers."""
        for vm in await self._database.read(instances.running_of_users, self._host_id):
            self._asked.start(vm.id, partial(self._look_at, vm))

    async def _look_at(self, vm: Instance) -> None:
        """Note that a VM is halted or goes on, and try a halted one again."""
        # by its row: what starts, stops or adopts the VM clears that
        is_noted = vm.reason == DISK_FULL.reason
        try:
            if await self._hypervisor.condition(vm.instance_name) == _IO_ERROR:
                if not is_noted:
                    await self._database.run(transitions.set_halted, vm.id)
                await self._hypervisor.resume(vm.instance_name)
            elif is_noted:
                await self._database.run(transitions.set_resumed, vm.id)
        except HypervisorError as error:
            self._log.debug("{why}", why=error.message)  # it ends, or does not answer now
