# SPDX-License-Identifier: Apache-2.0
"""Brings the rows of a host's VMs up to date with what the host lists. Functions over a connection.

The VMs belong to the account that registered the host. The cloud shows them and opens their consoles; it
never starts, stops or deletes them.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from systemvm.management.foreign_hosts.inventory import HostInventory, HostMachine, HostPower
from systemvm.management.state import events, foreign_hosts, instances, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.management.state.zones import Host

_SUSPENDED = "It is suspended on its host."
_RESUME = "Resume it there."
_STATES = {
    HostPower.ON: InstanceState.RUNNING,
    HostPower.OFF: InstanceState.STOPPED,
    HostPower.SUSPENDED: InstanceState.STOPPED,
}


@frozen
class ListingChanges:
    """What a listing has changed."""

    removed: list[int] = field(factory=list)  # numbers of VMs whose consoles end
    addresses: bool = False  # whether console proxies may reach other ones than before


def apply(connection: Connection, host_id: int, inventory: HostInventory) -> ListingChanges:
    """Apply one listing, which makes the host Up; a VM that it lacks is removed."""
    access = foreign_hosts.of_host(connection, host_id)
    foreign_hosts.update(
        connection, host_id, addresses=inventory.addresses, reason=None, hint=None, failures=0
    )
    before = zones.host_by_id(connection, host_id)
    host = zones.host_rows.update(
        connection, host_id, state="Up", version=inventory.version[:40] or None, last_seen=now()
    )
    if before.state != "Up":
        record(connection, host, "HOST.RECONNECT", "is Up")
    known = {vm.host_reference: vm for vm in instances.of_host(connection, host_id)}
    for machine in inventory.machines:
        vm = known.pop(machine.reference, None)
        if vm is None:
            _add(connection, host, machine)
        else:
            _update(connection, vm, machine)
    for vm in known.values():
        _remove(connection, vm, f"was deleted on {host.name}")
    return ListingChanges([vm.id for vm in known.values()], access.addresses != inventory.addresses)


def remove_all(connection: Connection, host: Host) -> list[int]:
    """Remove the rows of a host's VMs; return their numbers."""
    found = instances.of_host(connection, host.id)
    for vm in found:
        _remove(connection, vm, f"is not shown any more: host {host.name} was removed")
    return [vm.id for vm in found]


def record(connection: Connection, host: Host, kind: str, text: str, *, level: str = "INFO") -> None:
    events.record(
        connection,
        kind,
        f"host {host.name} {text}",
        level=level,
        zone_id=host.zone_id,
        resource_type="Host",
        resource_uuid=host.uuid,
    )


def _columns(machine: HostMachine) -> dict[str, Any]:
    is_suspended = machine.power is HostPower.SUSPENDED
    return {
        "name": machine.name,
        "display_name": machine.name,
        "state": _STATES[machine.power],
        "reason": _SUSPENDED if is_suspended else None,
        "hint": _RESUME if is_suspended else None,
        "vcpus": machine.vcpus,
        "memory_mib": machine.memory_mib,
    }


def _add(connection: Connection, host: Host, machine: HostMachine) -> None:
    columns = _columns(machine)
    vm = instances.create(
        connection,
        InstanceType.USER,
        account_id=host.account_id,
        domain_id=host.domain_id,
        zone_id=host.zone_id,
        host_id=host.id,
        hypervisor=host.hypervisor,
        host_reference=machine.reference,
        **columns,
    )
    _record(connection, vm, "VM.CREATE", f"was found on {host.name}")


def _update(connection: Connection, vm: Instance, machine: HostMachine) -> None:
    columns = _columns(machine)
    changes = {name: value for name, value in columns.items() if getattr(vm, name) != value}
    if not changes:
        return
    changed = instances.update(connection, vm.id, **changes)
    if "state" in changes:
        runs = changed.state is InstanceState.RUNNING
        _record(
            connection, changed, "VM.START" if runs else "VM.STOP", f"is {changed.state.value} on its host"
        )


def _remove(connection: Connection, vm: Instance, why: str) -> None:
    instances.remove(connection, vm.id, InstanceState.EXPUNGING)
    _record(connection, vm, "VM.EXPUNGE", why)


def _record(connection: Connection, vm: Instance, kind: str, text: str) -> None:
    events.record(
        connection,
        kind,
        f"{vm.shown_name} {text}",
        account_id=vm.account_id,
        domain_id=vm.domain_id,
        zone_id=vm.zone_id,
        resource_type="VirtualMachine",
        resource_uuid=vm.uuid,
    )
