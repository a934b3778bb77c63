# SPDX-License-Identifier: Apache-2.0
"""Answers of hosts from their rows: hypervisor hosts, and the agents of system VMs."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.zones import HostAnswer
from systemvm.management.api.owner_names import read_names
from systemvm.management.foreign_hosts.access import colons
from systemvm.management.state import foreign_hosts, host_load, instances, pods, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.foreign_hosts import ForeignHost
from systemvm.management.state.host_load import HostLoad
from systemvm.management.state.host_state import explanation_of, host_state
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.state.pods import Cluster, Pod
from systemvm.management.state.status import InstanceType
from systemvm.management.state.zones import Host, Zone

MIB = 1024 * 1024


@frozen
class HostPlace:
    """Where a host is; one that joined no cluster is in a zone only."""

    zone: Zone | None
    pod: Pod | None
    cluster: Cluster | None


def hosts_and_agents(connection: Connection) -> list[HostAnswer]:
    """Return the agent of a system VM as a host with the VM's name, as CloudStack does."""
    names = read_names(connection)
    reached, loads = foreign_hosts.by_host(connection), host_load.by_host(connection)
    clusters = {cluster.id: cluster for cluster in pods.list_clusters(connection)}
    of_pod = {pod.id: pod for pod in pods.list_pods(connection)}
    hosts = []
    for host in zones.list_hosts(connection):
        cluster = clusters.get(host.cluster_id or 0)
        place = HostPlace(names.zone(host.zone_id), of_pod.get(cluster.pod_id) if cluster else None, cluster)
        hosts.append(_of_host(host, place, reached.get(host.id), loads.get(host.id, host_load.IDLE)))
    agents = instances.list_system(connection)
    nics = instances.nics_by_vm(connection, [vm.id for vm in agents])
    return hosts + [_of_agent(vm, names.zone(vm.zone_id), nics[vm.id]) for vm in agents]


def answer_of_host(connection: Connection, host: Host) -> HostAnswer:
    row = foreign_hosts.by_host(connection).get(host.id)
    load = host_load.by_host(connection, host.id).get(host.id, host_load.IDLE)
    cluster = None if host.cluster_id is None else pods.cluster_by_id(connection, host.cluster_id)
    pod = None if cluster is None else pods.pod_by_id(connection, cluster.pod_id)
    return _of_host(host, HostPlace(read_names(connection).zone(host.zone_id), pod, cluster), row, load)


def _of_host(host: Host, place: HostPlace, reached: ForeignHost | None, load: HostLoad) -> HostAnswer:
    zone, pod, cluster = place.zone, place.pod, place.cluster
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
        virtualmachines=load.machines,
        podid=pod.uuid if pod else None,
        podname=pod.name if pod else None,
        clusterid=cluster.uuid if cluster else None,
        clustername=cluster.name if cluster else None,
        cpunumber=host.cpus,
        ueficapability=bool(host.has_uefi) if host.is_driven else None,
        memorytotal=None if host.memory_mib is None else host.memory_mib * MIB,
        vcpusallocated=load.vcpus if host.is_driven else None,
        memoryallocated=load.memory_mib * MIB if host.is_driven else None,
        memoryallocatedbytes=load.memory_mib * MIB if host.is_driven else None,
    )


def _of_agent(vm: Instance, zone: Zone | None, nics: Sequence[Nic]) -> HostAnswer:
    reason, hint = explanation_of(vm)
    of_management = (nic.address for nic in nics if nic.traffic_type == TrafficType.MANAGEMENT.value)
    return HostAnswer(
        id=vm.uuid,
        name=vm.instance_name,
        state=host_state(vm).value,
        reason=reason,
        hint=hint,
        type="ConsoleProxy" if vm.type is InstanceType.CONSOLE_PROXY else "SecondaryStorageVM",
        ipaddress=next(of_management, None),
        version=vm.agent_version,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        resourcestate="Enabled",
        arch=vm.arch,
        created=vm.created,
        disconnected=vm.disconnected,
    )
