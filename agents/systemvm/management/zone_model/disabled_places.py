# SPDX-License-Identifier: Apache-2.0
"""Zones, pods and clusters that are Disabled: nothing is started there, and what runs goes on."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.state import pods, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.pods import ENABLED, Cluster, Pod
from systemvm.management.state.zones import Zone


@frozen
class DisabledPlace:
    """What keeps VMs from being started, and the command that enables it."""

    noun: str
    name: str
    command: str


def disabled_place(connection: Connection, zone: Zone, host_id: int) -> DisabledPlace | None:
    """Return what is Disabled of a VM's zone and of the pod and the cluster of its host, if anything."""
    parts: list[tuple[str, Zone | Pod | Cluster, str]] = [("zone", zone, "updateZone")]
    host = zones.host_by_id(connection, host_id)
    if host.cluster_id is not None:
        cluster = pods.cluster_by_id(connection, host.cluster_id)
        parts.append(("pod", pods.pod_by_id(connection, cluster.pod_id), "updatePod"))
        parts.append(("cluster", cluster, "updateCluster"))
    for noun, part, command in parts:
        if part.allocation_state != ENABLED:
            return DisabledPlace(noun, part.name, command)
    return None
