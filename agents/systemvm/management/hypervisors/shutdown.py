# SPDX-License-Identifier: Apache-2.0
"""Stops a machine, with its row in Stopping, and in Running again if it cannot be stopped."""

from __future__ import annotations

from typing import Any

from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState


async def stop_machine(
    database: Database,
    hypervisor: Hypervisor,
    vm: Instance,
    *,
    forced: bool,
    timeout_s: float,
    **stopping: Any,
) -> None:
    """Press the power button, or end the machine at once; `stopping` are columns to write with the state.

    The caller writes the row after a success, which is also an end by itself meanwhile: that is not recorded.
    Raises: HypervisorError when it continues to run; its row is then Running again with the reason.
    """
    await database.run(instances.update, vm.id, state=InstanceState.STOPPING, **stopping)
    try:
        await hypervisor.stop(vm.instance_name, forced=forced, timeout_s=timeout_s)
    except HypervisorError as error:
        await database.run(
            instances.update,
            vm.id,
            state=InstanceState.RUNNING,
            reason=f"It could not be stopped: {error.message}",
            hint=error.hint or None,
        )
        status = hypervisor.status(vm.instance_name)
        if status is not None and status.state.alive:
            raise
