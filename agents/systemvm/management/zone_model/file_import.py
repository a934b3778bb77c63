# SPDX-License-Identifier: Apache-2.0
"""Makes rows of the networks that a zone's file describes: once, after which the API changes them.

A file describes one pod with one cluster of KVM hosts. Earlier releases derived the parts' ids from the
zone's UUID and the kind of the part; the rows have the same ids.
"""

from __future__ import annotations

import uuid

from systemvm.host.config_file import ConfigError
from systemvm.host.guest_services import is_domain
from systemvm.host.zone import NetworkConfig, TrafficType, ZoneConfig
from systemvm.management.state import address_ranges, physical_networks, pods, storage_pools, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.pods import Cluster, Pod
from systemvm.management.state.zones import Host, Zone

#: Traffic types whose ranges belong to a pod.
OF_PODS = (TrafficType.MANAGEMENT, TrafficType.STORAGE)


def part_id(owner: str, part: str) -> str:
    """Return the id of a part of a zone or host, derived from its owner's."""
    return str(uuid.uuid5(uuid.UUID(owner), part))


def import_zone(connection: Connection, zone: Zone, config: ZoneConfig) -> Zone:
    """Create the rows of everything that the file describes; does nothing when that was done before.

    Raises: ConfigError when its domain cannot be one.
    """
    if zone.imported is not None:
        return zone
    if config.domain is not None and not is_domain(config.domain):
        raise ConfigError(
            f"domain of zone {zone.name} is not a domain: {config.domain[:64]!r}",
            "write it as guests.example.test",
        )
    pod = _import_pod(connection, zone, config)
    pods.cluster_rows.insert(
        connection,
        uuid=part_id(zone.uuid, "cluster"),
        zone_id=zone.id,
        pod_id=pod.id,
        name=f"{zone.name}-cluster",
        hypervisor="KVM",
        arch=zone.arch,
    )
    networks: dict[str, int] = {}
    for kind, network in config.networks.by_type().items():
        label = network.bridge
        if label not in networks:
            row = physical_networks.network_rows.insert(
                connection,
                uuid=part_id(zone.uuid, f"physical network {label}"),
                zone_id=zone.id,
                name=label,
            )
            networks[label] = row.id
        physical_networks.traffic_rows.insert(
            connection,
            uuid=part_id(zone.uuid, f"{kind.value} traffic"),
            physical_network_id=networks[label],
            traffic_type=kind.value,
            kvm_label=label,
        )
        _import_range(connection, zone, pod, kind, network)
    return zones.zone_rows.update(
        connection,
        zone.id,
        imported=now(),
        dns6=[str(server) for server in config.dns6],
        network_domain=config.domain,
    )


def import_host(connection: Connection, host: Host) -> Host:
    """Put a host into the only cluster of its zone, with its directory as a pool."""
    if host.cluster_id is None and host.zone_id is not None:
        clusters = pods.list_clusters(connection, host.zone_id)
        if len(clusters) != 1:
            return host  # addHost decides
        host = join_cluster(connection, host, clusters[0])
    return host


def join_cluster(connection: Connection, host: Host, cluster: Cluster) -> Host:
    """Put a host into a cluster, with its own directory as a pool there."""
    zones.host_rows.update(connection, host.id, cluster_id=cluster.id, zone_id=cluster.zone_id)
    storage_pools.put_pool_of_host(
        connection,
        uuid=part_id(host.uuid, "pool"),
        host_id=host.id,
        name=f"{host.name}-primary",
        zone_id=cluster.zone_id,
        pod_id=cluster.pod_id,
        cluster_id=cluster.id,
    )
    return zones.host_by_id(connection, host.id)


def _import_pod(connection: Connection, zone: Zone, config: ZoneConfig) -> Pod:
    management = config.networks.management
    return pods.pod_rows.insert(
        connection,
        uuid=part_id(zone.uuid, "pod"),
        zone_id=zone.id,
        name=f"{zone.name}-pod",
        cidr=str(management.cidr),
        gateway=_text(management.router),
    )


def _import_range(
    connection: Connection, zone: Zone, pod: Pod, kind: TrafficType, network: NetworkConfig
) -> None:
    address_ranges.rows.insert(
        connection,
        uuid=part_id(zone.uuid, f"{kind.value} range"),
        zone_id=zone.id,
        pod_id=pod.id if kind in OF_PODS else None,
        traffic_type=kind.value,
        cidr=str(network.cidr),
        gateway=_text(network.router),
        first=_text(network.pool.first if network.pool else None),
        last=_text(network.pool.last if network.pool else None),
        cidr6=_text(network.cidr6),
        gateway6=_text(network.gateway6),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
