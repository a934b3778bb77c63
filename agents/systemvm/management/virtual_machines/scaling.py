# SPDX-License-Identifier: Apache-2.0
"""Gives a Stopped VM the size of another offering.

The rules and the messages are CloudStack's (VirtualMachineManagerImpl.checkIfCanUpgrade). There an offering
with dynamic scaling is given to a running VM, too; here no VM has room for more CPUs or memory while it runs.
"""

from __future__ import annotations

from systemvm.management.resource_limits import limits
from systemvm.management.state import events, instances, storage_pools, volumes
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.offerings import SHARED, ServiceOffering
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.status import InstanceState
from systemvm.management.state.storage_pools import tags_of
from systemvm.management.virtual_machines.errors import MachineStateError, NotScalableError


def scale(connection: Connection, vm_id: int, offering: ServiceOffering) -> Instance:
    """Change a VM's size; does nothing when it has it.

    One transaction: another VM of the account cannot get what the limits leave for this one.
    Raises: MachineStateError, NotScalableError as `check`, ResourceLimitError.
    """
    vm = instances.by_id(connection, vm_id)
    if (vm.vcpus, vm.memory_mib) == (offering.vcpus, offering.memory_mib):
        return vm
    check(connection, vm, offering)
    more = {
        ResourceType.cpu: offering.vcpus - vm.vcpus,
        ResourceType.memory: offering.memory_mib - vm.memory_mib,
    }
    # an account with too much can become smaller
    limits.check(connection, vm.account_id, {kind: amount for kind, amount in more.items() if amount > 0})
    scaled = instances.update(connection, vm.id, vcpus=offering.vcpus, memory_mib=offering.memory_mib)
    events.record(
        connection,
        "VM.UPGRADE",
        f"{vm.name} has the offering {offering.name} from its next start",
        account_id=vm.account_id,
        domain_id=vm.domain_id,
        zone_id=vm.zone_id,
        resource_type="VirtualMachine",
        resource_uuid=vm.uuid,
    )
    return scaled


def check(connection: Connection, vm: Instance, offering: ServiceOffering) -> None:
    """Check that a VM is Stopped, and that its root disk is where the offering wants it.

    Raises: MachineStateError, NotScalableError.
    """
    if vm.state is not InstanceState.STOPPED:
        raise MachineStateError(
            f"Unable to upgrade virtual machine {vm.name} in state {vm.state.value}; make sure the virtual"
            " machine is stopped",
            "stop it first with stopVirtualMachine: CPUs and memory cannot be changed while it runs",
            value=vm.uuid,
        )
    root = volumes.root_of(connection, vm.id)
    if root is None:
        return
    if root.pool_id is None:
        pool = storage_pools.pool_of_host(connection, root.host_id or 0)
    else:
        pool = storage_pools.by_id(connection, root.pool_id)
    is_local = pool is None or pool.is_local
    wants_local = offering.storage_type != SHARED
    if is_local != wants_local:
        wanted, present = ("local", "shared") if wants_local else ("shared", "local")
        raise NotScalableError(
            f"Unable to upgrade virtual machine {vm.name}, target offering use {wanted} storage but the"
            f" storage pool where the volume is allocated is a {present} storage.",
            "choose another offering, or move the root disk first with migrateVolume",
            parameter="serviceofferingid",
        )
    if missing := tags_of(offering.tags) - (pool.tag_set if pool else frozenset()):
        raise NotScalableError(
            "Unable to upgrade virtual machine; the storage pool of its root disk does not have the tags of"
            f" offering {offering.name}: {', '.join(sorted(missing))}",
            "choose another offering, or move the root disk first with migrateVolume",
            parameter="serviceofferingid",
        )
