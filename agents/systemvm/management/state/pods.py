# SPDX-License-Identifier: Apache-2.0
"""Pods and clusters: where in a zone its hosts are."""

from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Address, IPv4Network

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.rows import Rows

ENABLED, DISABLED = "Enabled", "Disabled"


def _address(text: str | None) -> IPv4Address | None:
    return None if text is None else IPv4Address(text)


@frozen
class Pod:
    id: int
    uuid: str
    zone_id: int
    name: str
    cidr: IPv4Network = field(converter=IPv4Network)  # of its management network
    gateway: IPv4Address | None = field(converter=_address)
    allocation_state: str
    created: datetime
    removed: datetime | None


@frozen
class Cluster:
    id: int
    uuid: str
    zone_id: int
    pod_id: int
    name: str
    hypervisor: str
    arch: str | None
    allocation_state: str
    created: datetime
    removed: datetime | None


pod_rows = Rows(schema.pods, Pod, "pod")
cluster_rows = Rows(schema.clusters, Cluster, "cluster")

pod_by_id = pod_rows.by_id
pod_by_uuid = pod_rows.by_uuid
cluster_by_id = cluster_rows.by_id
cluster_by_uuid = cluster_rows.by_uuid


def list_pods(connection: sa.Connection, zone_id: int | None = None) -> list[Pod]:
    c = schema.pods.c
    return pod_rows.all(connection, c.removed.is_(None), *([] if zone_id is None else [c.zone_id == zone_id]))


def list_clusters(
    connection: sa.Connection, zone_id: int | None = None, pod_id: int | None = None
) -> list[Cluster]:
    c = schema.clusters.c
    where: list[sa.ColumnElement[bool]] = [c.removed.is_(None)]
    where += [] if zone_id is None else [c.zone_id == zone_id]
    where += [] if pod_id is None else [c.pod_id == pod_id]
    return cluster_rows.all(connection, *where)


def pod_of_host(connection: sa.Connection, host_id: int) -> Pod | None:
    """Return the pod that a host is in; None when it is in no cluster."""
    c, h = schema.clusters.c, schema.hosts.c
    query = (
        sa.select(c.pod_id)
        .join_from(schema.hosts, schema.clusters, h.cluster_id == c.id)
        .where(h.id == host_id, c.removed.is_(None))
    )
    found = connection.execute(query).scalar()
    return None if found is None else pod_by_id(connection, found)
