# SPDX-License-Identifier: Apache-2.0
"""Starts users' VMs, and copies the images that they need to primary storage before.

Image stores can be silent for hours: what is copied from them is copied without the VM's lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.pki.seal import Seal
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines import transitions
from systemvm.management.virtual_machines.errors import MachineBusyError, MachineError, MachineStateError
from systemvm.management.virtual_machines.exit_reasons import ExitExplanation, explain
from systemvm.management.virtual_machines.interruptions import Interruptions
from systemvm.management.virtual_machines.machine import ImageCopy, UserVmBuilder
from systemvm.management.virtual_machines.machine_checks import check_exists
from systemvm.management.vm_locks import PerVmLock
from systemvm.service import host_errors
from systemvm.service.errors import SystemVmError
from systemvm.service.single_flight import SingleFlight


class MachineNetworks(Protocol):
    """The networks that machines are on; only `implement` fails."""

    async def implement(self, vm_id: int) -> None: ...
    async def prepare(self, vm_id: int) -> None: ...
    async def update(self) -> None: ...


class MachineStarts:
    """The start of a user's VM, by its id."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        hypervisor: Hypervisor,
        builder: UserVmBuilder,
        seal: Seal,
        lock: PerVmLock[int],
        *,
        host_id: int,
        move_consoles: Callable[[int], Awaitable[None]],
        networks: MachineNetworks,
    ) -> None:
        self._database = database
        self._hypervisor = hypervisor
        self._builder = builder
        self._seal = seal
        self._lock = lock
        self._host_id = host_id
        self._move_consoles = move_consoles
        self._networks = networks
        self._copies = SingleFlight[ImageCopy]()
        self._waits = Interruptions()

    async def prepare_template(self, template_id: int, pool_id: int | None) -> None:
        """Copy a template to a storage pool, once for all who need it; None is the host's own directory."""
        copy = ImageCopy(template_id, pool_id)
        await self._copies.run(copy, partial(self._builder.prepare, copy))

    def interrupt(self, vm_id: int, error: SystemVmError) -> None:
        """End the wait of a start for images."""
        self._waits.interrupt(vm_id, error)

    async def start(self, vm_id: int, *, only_wanted: bool = False) -> Instance:
        """Boot a VM with a fresh VNC password; does nothing when it runs already.

        It is Starting while its images are copied, and until then can be stopped and destroyed. With
        `only_wanted`, a VM that somebody has stopped or destroyed is left alone.
        Raises: MachineStateError, also when it is stopped or destroyed meanwhile.
        """
        is_claimed = False
        while True:
            async with self._lock.acquire(vm_id) as vm:
                if only_wanted and not vm.wanted:
                    return vm
                check_exists(vm)
                status = self._hypervisor.status(vm.instance_name)
                if status is not None and status.state.alive:
                    return await self._database.run(transitions.set_running, vm, status)
                if not is_claimed:
                    vm = await self._claim(vm)
                elif vm.state is not InstanceState.STARTING:
                    raise stopped_meanwhile(vm)
                missing = await self._missing_copies(vm)
                if not missing:
                    return await self._boot(vm)
            is_claimed = True
            failure = await self._waits.unless_interrupted(vm_id, self._copy(missing))
            if failure is not None:
                async with self._lock.acquire(vm_id) as vm:
                    if vm.state is InstanceState.STARTING:
                        await self._record_failure(vm, failure)
                raise failure

    async def _copy(self, missing: list[ImageCopy]) -> Exception | None:
        """Return why images cannot be copied: a start that was interrupted does not record it."""
        try:
            for copy in missing:
                await self.prepare_template(copy.template_id, copy.pool_id)
        except CancelledError:  # the daemon ends, and the next one continues
            raise
        except Exception as error:
            return error
        return None

    # --- steps, under its lock

    async def _claim(self, vm: Instance) -> Instance:
        claimed = await self._database.run(transitions.claim, vm, self._host_id)
        if claimed is None:
            raise MachineBusyError(
                f"{vm.name} is {vm.state.value}", "wait until it is Stopped", value=vm.uuid
            )
        return claimed

    async def _missing_copies(self, vm: Instance) -> list[ImageCopy]:
        try:
            return await self._builder.missing_copies(vm)
        except Exception as error:  # as of a stale mount
            await self._record_failure(vm, error)
            raise

    async def _boot(self, vm: Instance) -> Instance:
        try:
            await self._networks.implement(vm.id)
            built = await self._builder.build(vm)
            await self._database.run(
                instances.update, vm.id, sealed_vnc_password=self._seal.close(built.vnc_password)
            )
            await self._networks.prepare(vm.id)
            status = await self._hypervisor.start(built.spec)
        except Exception as error:
            await self._record_failure(vm, error)
            raise
        running = await self._database.run(transitions.set_running, vm, status)
        why = await self.record_early_end(vm)
        if why is not None:
            raise MachineError(f"{vm.name} ended while it was being started: {why.reason}", why.hint or "")
        await self._move_consoles(vm.id)
        return running

    async def record_early_end(self, vm: Instance) -> ExitExplanation | None:
        """Return why a machine ended before its row was Running: until then its exit is not recorded."""
        after = self._hypervisor.status(vm.instance_name)
        if after is not None and after.state.alive:
            return None
        why = explain(after.exit_reason if after else None)
        await self._database.run(transitions.set_stopped, vm.id, why)
        return why

    async def _record_failure(self, vm: Instance, error: Exception) -> None:
        message, hint = _message_and_hint(error)
        self._log.info("{name} cannot be started: {why}", name=vm.instance_name, why=message)
        why = ExitExplanation(f"It could not be started: {message}", hint or None)
        await self._database.run(transitions.set_not_started, vm.id, why)


def stopped_meanwhile(vm: Instance) -> MachineStateError:
    return MachineStateError(f"{vm.name} was stopped meanwhile", "start it again", value=vm.uuid)


def _message_and_hint(error: Exception) -> tuple[str, str]:
    """Return message and hint of any error."""
    trouble = host_errors.explain(error)
    if trouble is not None and not hasattr(error, "hint"):
        return trouble.message, trouble.hint
    message, hint = getattr(error, "message", None), getattr(error, "hint", "")
    return str(message or error or type(error).__name__), str(hint)
