# SPDX-License-Identifier: Apache-2.0
"""createZone, updateZone, deleteZone, and the same of pods and clusters."""

from __future__ import annotations

from collections.abc import Sequence

from systemvm.management.api.answers.infrastructure import ClusterAnswer, PodAnswer
from systemvm.management.api.answers.zones import ZoneAnswer
from systemvm.management.api.commands import zone_answers
from systemvm.management.api.commands.model_commands import Done, ModelCommand
from systemvm.management.api.commands.model_parameters import (
    ALLOCATION_STATE,
    BOOLEAN,
    POD,
    STRING,
    ZONE,
    identity,
    pod_of,
    subnet_of,
    subnet_parameters,
    zone_of,
)
from systemvm.management.api.commands.zones import zone_answer
from systemvm.management.api.parameters import Arguments, only, optional, required
from systemvm.management.state import pods, zones
from systemvm.management.state.database import Connection
from systemvm.management.zone_model import places
from systemvm.management.zone_model import zones as model
from systemvm.management.zone_model.ranges import Labels

_SERVERS = (
    optional("dns2", STRING, "second name server for VMs", clears=True),
    optional("internaldns2", STRING, "second name server for system VMs", clears=True),
    optional("ip6dns1", STRING, "first IPv6 name server", clears=True),
    optional("ip6dns2", STRING, "second IPv6 name server", clears=True),
    optional("domain", STRING, "names of the public CA's certificates are below it", clears=True),
    optional(
        "description",
        STRING,
        "a description for people; an addition to CloudStack's parameters",
        clears=True,
    ),
)
_HYPERVISORS = ("KVM", "XenServer", "VMware")
_CLUSTER = (
    required("clustername", STRING, "name of the cluster"),
    required("hypervisor", STRING, "hypervisor of its hosts", choices=_HYPERVISORS),
    only("clustertype", STRING, "type of the cluster", "CloudManaged"),
    optional("arch", STRING, "architecture of its hosts: x86_64 or aarch64; that of its zone by default"),
)


def _servers(arguments: Arguments, first: str, second: str, before: Sequence[str] = ()) -> list[str] | None:
    """Return two name servers: those that are given, and those of `before` in place of others."""
    if first not in arguments and second not in arguments:
        return None
    kept = dict(zip((first, second), before, strict=False))
    return [address for name in (first, second) if (address := arguments.get(name, kept.get(name)))]


def _create_zone(connection: Connection, arguments: Arguments, labels: Labels) -> ZoneAnswer:
    zone = model.create_zone(
        connection,
        name=arguments["name"],
        dns=_servers(arguments, "dns1", "dns2") or [],
        internal_dns=_servers(arguments, "internaldns1", "internaldns2") or [],
        dns6=_servers(arguments, "ip6dns1", "ip6dns2"),
        arch=arguments.get("arch", "x86_64"),
        network_domain=arguments.text("domain"),
        description=arguments.get("description", ""),
        labels=labels,
    )
    return zone_answer(zone)


def _update_zone(connection: Connection, arguments: Arguments, labels: Labels) -> ZoneAnswer:
    before = zones.zone_by_uuid(connection, arguments["id"])
    zone = model.update_zone(
        connection,
        before,
        labels,
        name=arguments.text("name"),
        allocation_state=arguments.text("allocationstate"),
        dns=_servers(arguments, "dns1", "dns2", before.dns),
        internal_dns=_servers(arguments, "internaldns1", "internaldns2", before.internal_dns),
        dns6=_servers(arguments, "ip6dns1", "ip6dns2", before.dns6),
        network_domain=arguments.text("domain"),
        description=arguments.text("description"),
    )
    return zone_answer(zone)


def _delete_zone(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    zone = zones.zone_by_uuid(connection, arguments["id"])
    model.delete_zone(connection, zone)
    return zone.name


def _create_pod(connection: Connection, arguments: Arguments, labels: Labels) -> PodAnswer:
    zone = zone_of(connection, arguments)
    pod = places.create_pod(connection, zone, labels, name=arguments["name"], subnet=subnet_of(arguments))
    return zone_answers.pod_answer(connection, pod, zone)


def _update_pod(connection: Connection, arguments: Arguments, labels: Labels) -> PodAnswer:
    pod = places.update_pod(
        connection,
        pods.pod_by_uuid(connection, arguments["id"]),
        name=arguments.text("name"),
        allocation_state=arguments.text("allocationstate"),
    )
    return zone_answers.pod_answer(connection, pod, zones.zone_by_id(connection, pod.zone_id))


def _delete_pod(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    pod = pods.pod_by_uuid(connection, arguments["id"])
    places.delete_pod(connection, pod)
    return pod.name


def _add_cluster(connection: Connection, arguments: Arguments, labels: Labels) -> ClusterAnswer:
    pod, zone = pod_of(connection, arguments), zone_of(connection, arguments)
    cluster = places.add_cluster(
        connection,
        pod,
        name=arguments["clustername"],
        hypervisor=arguments["hypervisor"],
        arch=model.architecture(arguments["arch"]) if "arch" in arguments else zone.arch,
    )
    return zone_answers.cluster_answer(cluster, pod, zone)


def _update_cluster(connection: Connection, arguments: Arguments, labels: Labels) -> ClusterAnswer:
    cluster = places.update_cluster(
        connection,
        pods.cluster_by_uuid(connection, arguments["id"]),
        name=arguments.text("clustername"),
        allocation_state=arguments.text("allocationstate"),
    )
    pod, zone = pods.pod_by_id(connection, cluster.pod_id), zones.zone_by_id(connection, cluster.zone_id)
    return zone_answers.cluster_answer(cluster, pod, zone)


def _delete_cluster(connection: Connection, arguments: Arguments, labels: Labels) -> str:
    cluster = pods.cluster_by_uuid(connection, arguments["id"])
    places.delete_cluster(connection, cluster)
    return cluster.name


ZONES = (
    ModelCommand(
        "createZone", "Creates a zone. It is Disabled: updateZone enables it when it has what it needs.",
        "zone", "ZONE.CREATE", Done.CREATED, _create_zone,
        (
            required("name", STRING, "name of the zone"),
            required("dns1", STRING, "first name server for VMs"),
            required("internaldns1", STRING, "first name server for system VMs"),
            only("networktype", STRING, "type of the zone", "Advanced"),
            only("securitygroupenabled", BOOLEAN, "security groups", False),
            only("localstorageenabled", BOOLEAN, "disks of VMs on their host", True),
            optional("arch", STRING, "x86_64 or aarch64; an addition to CloudStack's parameters"),
            *_SERVERS,
        ),
        ZoneAnswer, "zone", related=("createPod", "createPhysicalNetwork", "updateZone"),
    ),
    ModelCommand(
        "updateZone", "Changes, enables or disables a zone.", "zone", "ZONE.EDIT", Done.UPDATED, _update_zone,
        (
            identity("zone", "listZones"),
            optional("name", STRING, "the new name"),
            optional("dns1", STRING, "first name server for VMs"),
            optional("internaldns1", STRING, "first name server for system VMs"),
            ALLOCATION_STATE,
            *_SERVERS,
        ),
        ZoneAnswer, "zone", related=("listZones",),
    ),
    ModelCommand(
        "deleteZone", "Deletes a zone that has no parts.", "zone", "ZONE.DELETE", Done.DELETED, _delete_zone,
        (identity("zone", "listZones"),), related=("deletePod", "deletePhysicalNetwork"),
    ),
)  # fmt: skip

PODS = (
    ModelCommand(
        "createPod", "Creates a pod with its management network.", "pod", "POD.CREATE", Done.CREATED,
        _create_pod,
        (ZONE, required("name", STRING, "name of the pod"), *subnet_parameters(is_span_required=False)),
        PodAnswer, "pod", related=("createManagementNetworkIpRange", "addCluster"),
    ),
    ModelCommand(
        "updatePod", "Changes the name or the state of a pod.", "pod", "POD.EDIT", Done.UPDATED, _update_pod,
        (identity("pod", "listPods"), optional("name", STRING, "the new name"), ALLOCATION_STATE),
        PodAnswer, "pod", related=("listPods",),
    ),
    ModelCommand(
        "deletePod", "Deletes a pod that has no cluster, with its ranges.", "pod", "POD.DELETE", Done.DELETED,
        _delete_pod, (identity("pod", "listPods"),), related=("deleteCluster",),
    ),
)  # fmt: skip

CLUSTERS = (
    ModelCommand(
        "addCluster", "Adds a cluster to a pod.", "cluster", "CLUSTER.CREATE", Done.CREATED, _add_cluster,
        (ZONE, POD, *_CLUSTER), ClusterAnswer, "cluster", related=("addHost",),
    ),
    ModelCommand(
        "updateCluster", "Changes the name or the state of a cluster.", "cluster", "CLUSTER.EDIT",
        Done.UPDATED, _update_cluster,
        (
            identity("cluster", "listClusters"),
            optional("clustername", STRING, "the new name"),
            ALLOCATION_STATE,
        ),
        ClusterAnswer, "cluster", related=("listClusters",),
    ),
    ModelCommand(
        "deleteCluster", "Deletes a cluster that has no host.", "cluster", "CLUSTER.DELETE", Done.DELETED,
        _delete_cluster, (identity("cluster", "listClusters"),), related=("deleteHost",),
    ),
)  # fmt: skip

PLACES = (*ZONES, *PODS, *CLUSTERS)
