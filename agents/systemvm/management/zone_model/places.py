# SPDX-License-Identifier: Apache-2.0
"""Creates, changes and deletes pods and clusters, and puts hosts into clusters. Each function is one
transaction."""

from __future__ import annotations

from typing import Any

from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, instances, pods, schema, storage_pools, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.pods import Cluster, Pod
from systemvm.management.state.zones import Host, Zone
from systemvm.management.zone_model.file_import import join_cluster
from systemvm.management.zone_model.ranges import (
    Labels,
    add_range,
    check_free,
    check_subnet,
    delete_range,
)
from systemvm.management.zone_model.refusals import check_name, in_use, invalid, named
from systemvm.management.zone_model.subnets import Subnet


def create_pod(connection: Connection, zone: Zone, labels: Labels, *, name: str, subnet: Subnet) -> Pod:
    """Create a pod with its management network.

    Raises: ModelError when its name or its network is not free.
    """
    others = pods.list_pods(connection, zone.id)
    wanted = check_name("name", name, [pod.name for pod in others])
    for other in others:
        if other.cidr.overlaps(subnet.cidr):
            raise invalid(
                "netmask",
                f"network {subnet.cidr} overlaps {other.cidr} of pod {other.name}",
                "choose a gateway and a netmask of another network",
            )
    check_subnet(connection, zone, TrafficType.MANAGEMENT, subnet)
    check_free(connection, zone, TrafficType.MANAGEMENT, subnet, labels)
    pod = pods.pod_rows.insert(
        connection, zone_id=zone.id, name=wanted, cidr=str(subnet.cidr), gateway=str(subnet.gateway)
    )
    if subnet.first is not None:
        add_range(connection, zone, TrafficType.MANAGEMENT, subnet, labels, pod=pod)
    return pod


def update_pod(
    connection: Connection, pod: Pod, *, name: str | None = None, allocation_state: str | None = None
) -> Pod:
    """Change what is not None. Raises: ModelError when the name is not free."""
    changes: dict[str, Any] = {}
    if name is not None:
        others = [each.name for each in pods.list_pods(connection, pod.zone_id) if each.id != pod.id]
        changes["name"] = check_name("name", name, others)
    if allocation_state is not None:
        changes["allocation_state"] = allocation_state
    return pods.pod_rows.update(connection, pod.id, **changes) if changes else pod


def delete_pod(connection: Connection, pod: Pod) -> None:
    """Delete a pod with its ranges.

    Raises: ModelError when it has clusters or pools, or a VM has one of its addresses.
    """
    what = f"pod {pod.name}"
    clusters = pods.list_clusters(connection, pod_id=pod.id)
    if clusters:
        raise in_use(what, named("cluster", [each.name for each in clusters]), "delete each cluster first")
    pools = [pool.name for pool in storage_pools.list_pools(connection, pod.zone_id) if pool.pod_id == pod.id]
    if pools:
        raise in_use(what, named("storage pool", pools), "delete each storage pool first")
    for each in address_ranges.list_ranges(connection, pod.zone_id, pod_id=pod.id):
        delete_range(connection, each)
    pods.pod_rows.update(connection, pod.id, removed=now())


def add_cluster(connection: Connection, pod: Pod, *, name: str, hypervisor: str, arch: str | None) -> Cluster:
    """Add a cluster to a pod. Raises: ModelError when its name is not free."""
    others = [each.name for each in pods.list_clusters(connection, pod_id=pod.id)]
    return pods.cluster_rows.insert(
        connection,
        zone_id=pod.zone_id,
        pod_id=pod.id,
        name=check_name("clustername", name, others),
        hypervisor=hypervisor,
        arch=arch,
    )


def update_cluster(
    connection: Connection, cluster: Cluster, *, name: str | None = None, allocation_state: str | None = None
) -> Cluster:
    """Change what is not None. Raises: ModelError when the name is not free."""
    changes: dict[str, Any] = {}
    if name is not None:
        siblings = pods.list_clusters(connection, pod_id=cluster.pod_id)
        others = [each.name for each in siblings if each.id != cluster.id]
        changes["name"] = check_name("clustername", name, others)
    if allocation_state is not None:
        changes["allocation_state"] = allocation_state
    return pods.cluster_rows.update(connection, cluster.id, **changes) if changes else cluster


def delete_cluster(connection: Connection, cluster: Cluster) -> None:
    """Delete a cluster. Raises: ModelError when it has hosts or pools."""
    what = f"cluster {cluster.name}"
    hosts = [host.name for host in zones.list_hosts(connection) if host.cluster_id == cluster.id]
    if hosts:
        raise in_use(what, named("host", hosts), "remove each host with deleteHost first")
    pools = [
        pool.name
        for pool in storage_pools.list_pools(connection, cluster.zone_id)
        if pool.cluster_id == cluster.id
    ]
    if pools:
        raise in_use(what, named("storage pool", pools), "delete each storage pool first")
    pods.cluster_rows.update(connection, cluster.id, removed=now())


def add_host(connection: Connection, cluster: Cluster, name: str) -> Host:
    """Put a host whose daemon runs into a cluster, with its own directory as a pool.

    Raises: ModelError when no such host is known, or it is in a cluster, or of another architecture.
    """
    known = zones.list_hosts(connection)
    host = next((each for each in known if name in (each.name, each.address)), None)
    if host is None:
        names = ", ".join(each.name for each in known)
        raise invalid("url", f"no management daemon runs on host {name[:64]}", f"choose one of {names}")
    if host.cluster_id == cluster.id:
        return host
    if host.cluster_id is not None:
        present = pods.cluster_by_id(connection, host.cluster_id)
        raise in_use(
            f"host {host.name}", f"it is in cluster {present.name}", "remove it with deleteHost first"
        )
    if host.hypervisor != cluster.hypervisor or cluster.arch not in (None, host.arch):
        raise invalid(
            "clusterid",
            f"cluster {cluster.name} is for {cluster.hypervisor} on {cluster.arch}, and host {host.name} has "
            f"{host.hypervisor} on {host.arch}",
            "choose another cluster, or add one with addCluster",
        )
    return join_cluster(connection, host, cluster)


def remove_host(connection: Connection, host: Host) -> None:
    """Take a host out of its cluster. Raises: ModelError when VMs are on it."""
    c = schema.vm_instances.c
    vms = instances.rows.all(connection, c.host_id == host.id, c.removed.is_(None), limit=100)
    if vms:
        raise in_use(
            f"host {host.name}",
            named("virtual machine", [vm.instance_name for vm in vms]),
            "disable the zone, then destroy its system VMs and expunge the others",
        )
    pool = storage_pools.pool_of_host(connection, host.id)
    if pool is not None:
        storage_pools.rows.update(connection, pool.id, removed=now())
    zones.host_rows.update(connection, host.id, cluster_id=None, zone_id=None)
