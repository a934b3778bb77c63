# SPDX-License-Identifier: Apache-2.0
"""Answers of hosts from their rows: hypervisor hosts, and the agents of system VMs."""

from __future__ import annotations

from systemvm.management.api.answers.zones import HostAnswer
from systemvm.management.api.owner_names import read_names
from systemvm.management.foreign_hosts.access import colons
from systemvm.management.state import foreign_hosts, instances, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.foreign_hosts import ForeignHost
from systemvm.management.state.host_state import explanation_of, host_state
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceType
from systemvm.management.state.zones import Host, Zone


def hosts_and_agents(connection: Connection) -> list[HostAnswer]:
    """Return the agent of a system VM as a host with the VM's name, as CloudStack does."""
    names = read_names(connection)
    reached = foreign_hosts.by_host(connection)
    counts = foreign_hosts.counts(connection, reached)
    hosts = [
        _of_host(host, names.zone(host.zone_id), reached.get(host.id), counts.get(host.id, 0))
        for host in zones.list_hosts(connection)
    ]
    hosts += [_of_agent(vm, names.zone(vm.zone_id)) for vm in instances.list_system(connection)]
    return hosts


def answer_of_host(connection: Connection, host: Host) -> HostAnswer:
    row = foreign_hosts.by_host(connection).get(host.id)
    counts = foreign_hosts.counts(connection, [host.id])
    return _of_host(host, read_names(connection).zone(host.zone_id), row, counts.get(host.id, 0))


def _of_host(host: Host, zone: Zone | None, reached: ForeignHost | None, machines: int) -> HostAnswer:
    return HostAnswer(
        id=host.uuid,
        name=host.name,
        state=host.state,
        type="Routing",
        ipaddress=host.address,
        hypervisor=host.hypervisor,
        version=host.version,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        resourcestate="Enabled",
        arch=host.arch,
        created=host.created,
        reason=reached.reason if reached else None,
        hint=reached.hint if reached else None,
        lastpinged=host.last_seen if reached else None,
        url=reached.url if reached else None,
        username=reached.username if reached else None,
        fingerprint=colons(reached.fingerprint) if reached and reached.fingerprint else None,
        consoleaddresses=reached.addresses if reached else None,
        virtualmachines=machines if reached else None,
    )


def _of_agent(vm: Instance, zone: Zone | None) -> HostAnswer:
    reason, hint = explanation_of(vm)
    return HostAnswer(
        id=vm.uuid,
        name=vm.instance_name,
        state=host_state(vm).value,
        reason=reason,
        hint=hint,
        type="ConsoleProxy" if vm.type is InstanceType.CONSOLE_PROXY else "SecondaryStorageVM",
        version=vm.agent_version,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        resourcestate="Enabled",
        arch=vm.arch,
        created=vm.created,
        disconnected=vm.disconnected,
    )
