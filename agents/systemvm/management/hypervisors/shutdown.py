# SPDX-License-Identifier: Apache-2.0
"""The end of a machine, and its row meanwhile: Stopping, and Running again if it cannot be ended."""

from __future__ import annotations

from typing import Any

from systemvm.management.hypervisors.base import Hypervisor
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.state import instances
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState


async def end_machine(
    database: Database,
    hypervisor: Hypervisor,
    vm: Instance,
    *,
    forced: bool,
    timeout_s: float,
    **stopping: Any,
) -> None:
    """Press its power button, or pull its plug; `stopping` are columns to write together with the state.

    Raises HypervisorError when it lives on; its row is then Running again and says why. What the row says
    after a success is for the caller to write.
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
        raise
