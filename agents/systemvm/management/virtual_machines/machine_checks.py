# SPDX-License-Identifier: Apache-2.0
"""What is checked of a VM before it is changed."""

from __future__ import annotations

from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.management.virtual_machines.errors import MachineError, MachineStateError


def check_is_users(vm: Instance) -> None:
    """Check that a VM is a user's, and that a daemon of this cloud runs it.

    Raises: MachineError, MachineStateError when it is not.
    """
    if vm.type is not InstanceType.USER:
        raise MachineError(f"{vm.instance_name} is a system VM", "use the commands for system VMs")
    if not vm.is_driven:
        raise MachineStateError(
            f"{vm.name} runs on a {vm.hypervisor} host, which this cloud does not control",
            "use the tools of that host: here it only has a console",
            value=vm.uuid,
        )


def check_exists(vm: Instance) -> None:
    """Check for a VM that was destroyed while a job waited for its lock.

    Raises: NotFoundError, MachineStateError when it was.
    """
    if vm.removed is not None:
        raise NotFoundError(f"virtual machine {vm.name} was destroyed")
    if vm.state.is_gone:
        recoverable = vm.state is InstanceState.DESTROYED
        hint = "recover it first with recoverVirtualMachine" if recoverable else "deploy another one"
        raise MachineStateError(f"{vm.name} is {vm.state.value}", hint, value=vm.uuid)
