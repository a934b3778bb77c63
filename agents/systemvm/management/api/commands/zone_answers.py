# SPDX-License-Identifier: Apache-2.0
"""The objects of a zone's parts, from their rows."""

from __future__ import annotations

from pathlib import Path

from systemvm.host.zone import TrafficType
from systemvm.management.api.answers.infrastructure import (
    ClusterAnswer,
    PhysicalNetworkAnswer,
    PodAnswer,
    StorageIpRangeAnswer,
    StoragePoolAnswer,
    TrafficTypeAnswer,
    VlanIpRangeAnswer,
)
from systemvm.management.api.zone_parts import guest_network_of
from systemvm.management.configurations import storage
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.state import (
    address_ranges,
    guest_networks,
    physical_networks,
    storage_pools,
    volumes,
    zones,
)
from systemvm.management.state import pods as pod_rows
from systemvm.management.state.address_ranges import NetworkRange
from systemvm.management.state.database import Connection
from systemvm.management.state.physical_networks import CarriedTraffic, PhysicalNetwork
from systemvm.management.state.pods import Cluster, Pod
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.zones import Zone

#: Traffic types whose ranges listVlanIpRanges lists.
OF_VLANS = (TrafficType.PUBLIC, TrafficType.GUEST)
_NOT_OWNED = "no account owns addresses: each range is for all accounts of its zone"
#: Parameters of CloudStack's ranges of VLANs that have no meaning here, and why.
NOT_OF_VLANS = {
    "account": _NOT_OWNED,
    "domainid": _NOT_OWNED,
    "projectid": _NOT_OWNED,
    "provider": "addresses are of system VMs and guests only",
    "podid": "these ranges are of zones; those of pods have createManagementNetworkIpRange",
}


def _zones(connection: Connection) -> dict[int, Zone]:
    return {zone.id: zone for zone in zones.list_zones(connection)}


def pods(connection: Connection) -> list[PodAnswer]:
    of_zone = _zones(connection)
    return [pod_answer(connection, pod, of_zone[pod.zone_id]) for pod in pod_rows.list_pods(connection)]


def pod_answer(connection: Connection, pod: Pod, zone: Zone) -> PodAnswer:
    ranges = address_ranges.list_ranges(connection, zone.id, TrafficType.MANAGEMENT, pod.id)
    used = address_ranges.used_counts(connection, ranges)
    return PodAnswer(
        id=pod.uuid,
        name=pod.name,
        zoneid=zone.uuid,
        zonename=zone.name,
        gateway=str(pod.gateway) if pod.gateway else None,
        netmask=str(pod.cidr.netmask),
        startip=[str(each.first) for each in ranges if each.size],
        endip=[str(each.last) for each in ranges if each.size],
        addressesused=sum(used.values()),
        addressestotal=address_ranges.total(ranges),
        allocationstate=pod.allocation_state,
    )


def clusters(connection: Connection) -> list[ClusterAnswer]:
    of_zone = _zones(connection)
    of_pod = {pod.id: pod for pod in pod_rows.list_pods(connection)}
    return [
        cluster_answer(cluster, of_pod[cluster.pod_id], of_zone[cluster.zone_id])
        for cluster in pod_rows.list_clusters(connection)
    ]


def cluster_answer(cluster: Cluster, pod: Pod, zone: Zone) -> ClusterAnswer:
    return ClusterAnswer(
        id=cluster.uuid,
        name=cluster.name,
        zoneid=zone.uuid,
        zonename=zone.name,
        podid=pod.uuid,
        podname=pod.name,
        hypervisortype=cluster.hypervisor,
        clustertype="CloudManaged",
        allocationstate=cluster.allocation_state,
        managedstate="Managed",
        arch=cluster.arch,
    )


def networks(connection: Connection) -> list[PhysicalNetworkAnswer]:
    of_zone = _zones(connection)
    return [
        network_answer(network, of_zone[network.zone_id])
        for network in physical_networks.list_networks(connection)
    ]


def network_answer(network: PhysicalNetwork, zone: Zone) -> PhysicalNetworkAnswer:
    return PhysicalNetworkAnswer(
        id=network.uuid,
        name=network.name,
        zoneid=zone.uuid,
        zonename=zone.name,
        broadcastdomainrange="ZONE",
        state=network.state,
        isolationmethods="VLAN",
        vlan=network.vnet,
    )


def traffic(connection: Connection, network_uuid: str | None) -> list[TrafficTypeAnswer]:
    """Return the traffic types of a physical network, or of all."""
    known = physical_networks.list_networks(connection)
    found = known if network_uuid is None else [physical_networks.network_by_uuid(connection, network_uuid)]
    of_zone = _zones(connection)
    return [
        traffic_answer(each, network, of_zone[network.zone_id])
        for network in found
        for each in physical_networks.traffic_of_network(connection, network.id)
    ]


def traffic_answer(traffic: CarriedTraffic, network: PhysicalNetwork, zone: Zone) -> TrafficTypeAnswer:
    return TrafficTypeAnswer(
        id=traffic.uuid,
        traffictype=traffic.traffic_type.value.title(),
        physicalnetworkid=network.uuid,
        physicalnetworkname=network.name,
        zoneid=zone.uuid,
        zonename=zone.name,
        kvmnetworklabel=traffic.kvm_label or network.name,
        xennetworklabel=traffic.xen_label,
        vmwarenetworklabel=traffic.vmware_label,
    )


def storage_ranges(connection: Connection) -> list[StorageIpRangeAnswer]:
    of_zone = _zones(connection)
    of_pod: dict[int | None, Pod] = {pod.id: pod for pod in pod_rows.list_pods(connection)}
    found = address_ranges.list_ranges(connection, traffic_type=TrafficType.STORAGE)
    used = address_ranges.used_counts(connection, found)
    return [
        storage_range_answer(each, of_pod.get(each.pod_id), of_zone[each.zone_id], used[each.id])
        for each in found
        if each.size
    ]


def storage_range_answer(each: NetworkRange, pod: Pod | None, zone: Zone, used: int) -> StorageIpRangeAnswer:
    return StorageIpRangeAnswer(
        id=each.uuid,
        zoneid=zone.uuid,
        podid=pod.uuid if pod else None,
        podname=pod.name if pod else None,
        vlan=each.vlan,
        **_ipv4_keys(each),
        **_ipv6_keys(each),
        addressesused=used,
        addressestotal=address_ranges.total([each]),
    )


def _ipv4_keys(each: NetworkRange) -> dict[str, str | None]:
    """Return the keys of IPv4 that the answers of ranges share."""
    if each.is_ipv6:
        return {}
    return {
        "gateway": str(each.gateway) if each.gateway else None,
        "netmask": str(each.cidr.netmask),
        "startip": str(each.first) if each.first else None,
        "endip": str(each.last) if each.last else None,
    }


def _ipv6_keys(each: NetworkRange) -> dict[str, str | None]:
    """Return the keys of IPv6, alone or in addition to IPv4."""
    cidr, gateway = (each.cidr, each.gateway) if each.is_ipv6 else (each.cidr6, each.gateway6)
    if cidr is None:
        return {}
    span = next((span for span in each.spans if span[0].version == 6), (None, None))
    return {
        "ip6cidr": str(cidr),
        "ip6gateway": str(gateway) if gateway else None,
        "startipv6": str(span[0]) if span[0] else None,
        "endipv6": str(span[1]) if span[1] else None,
    }


def ranges(connection: Connection, *, with_empty: bool) -> list[VlanIpRangeAnswer]:
    """Return the ranges of public and guest networks; of guests' that have no addresses if `with_empty`."""
    of_zone = _zones(connection)
    found = [
        each
        for each in address_ranges.list_ranges(connection)
        if each.traffic_type in OF_VLANS and (each.size or with_empty)
    ]
    used = address_ranges.used_counts(connection, found)
    return [range_answer(connection, each, of_zone[each.zone_id], used[each.id]) for each in found]


def range_answer(connection: Connection, each: NetworkRange, zone: Zone, used: int) -> VlanIpRangeAnswer:
    network = physical_networks.network_of_traffic(connection, zone.id, each.traffic_type)
    return VlanIpRangeAnswer(
        id=each.uuid,
        zoneid=zone.uuid,
        physicalnetworkid=network.uuid if network else None,
        networkid=_guest_network_of(connection, each, zone),
        vlan=f"vlan://{each.vlan_text}",
        cidr=None if each.is_ipv6 else str(each.cidr),
        **_ipv4_keys(each),
        **_ipv6_keys(each),
        forvirtualnetwork=each.traffic_type is TrafficType.PUBLIC,
        forsystemvms=each.for_system_vms,
        addressesused=used,
        addressestotal=address_ranges.total([each]),
    )


def _guest_network_of(connection: Connection, each: NetworkRange, zone: Zone) -> str | None:
    if each.traffic_type is not TrafficType.GUEST:
        return None
    if each.guest_network_id is None:
        return guest_network_of(zone).id
    return guest_networks.rows.by_id(connection, each.guest_network_id).uuid


def pools(connection: Connection, primary: Path, usages: Usages) -> list[StoragePoolAnswer]:
    """Return the pools; `primary` is this host's own directory."""
    of_host = volumes.allocated_bytes_by_host(connection)
    of_pool = volumes.allocated_bytes_by_pool(connection)
    return [
        pool_answer(
            connection,
            pool,
            primary,
            usages,
            of_host.get(pool.host_id or 0, 0) if pool.is_own_directory else of_pool.get(pool.id, 0),
        )
        for pool in storage_pools.list_pools(connection)
    ]


def pool_answer(
    connection: Connection, pool: StoragePool, primary: Path, usages: Usages, allocated_bytes: int
) -> StoragePoolAnswer:
    zone = zones.zone_by_id(connection, pool.zone_id)
    pod = None if pool.pod_id is None else pod_rows.pod_by_id(connection, pool.pod_id)
    cluster = None if pool.cluster_id is None else pod_rows.cluster_by_id(connection, pool.cluster_id)
    host = None if pool.host_id is None else zones.host_by_id(connection, pool.host_id)
    usage = usages.get(pool.id)
    down = pool.state == storage_pools.UP and pool.id in usages and usage is None
    factor = 1.0 if pool.is_own_directory else storage.limits(connection, pool.zone_id).overprovisioning
    return StoragePoolAnswer(
        id=pool.uuid,
        name=pool.name,
        zoneid=zone.uuid,
        zonename=zone.name,
        podid=pod.uuid if pod else None,
        podname=pod.name if pod else None,
        clusterid=cluster.uuid if cluster else None,
        clustername=cluster.name if cluster else None,
        hypervisor=cluster.hypervisor if cluster else "KVM",
        type=pool.type,
        scope=pool.scope,
        state="Down" if down else pool.state,
        ipaddress=host.address if host else pool.server or "localhost",
        path=pool.path or str(primary),
        tags=pool.tags or None,
        disksizetotal=usage.total_bytes if usage else None,
        disksizeused=usage.used_bytes if usage else None,
        disksizeallocated=allocated_bytes,
        overprovisionfactor=f"{factor:g}",
        provider="DefaultPrimary",
        managed=False,
        created=pool.created,
    )
