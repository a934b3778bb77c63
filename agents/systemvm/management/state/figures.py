# SPDX-License-Identifier: Apache-2.0
"""How many objects are in which state, for the daemon's metrics: each function is one grouped query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from systemvm.management.state import alerts, schema
from systemvm.management.state.status import InstanceType, JobStatus

#: The values of labels, and how many objects have them.
Counts = dict[tuple[str, ...], float]

_jobs, _refs, _vms, _stores, _zones = (
    schema.async_jobs.c,
    schema.template_store_refs.c,
    schema.vm_instances.c,
    schema.image_stores.c,
    schema.zones.c,
)
_ROLES = {InstanceType.SECONDARY_STORAGE: "ssvm", InstanceType.CONSOLE_PROXY: "cpvm"}


def jobs(connection: sa.Connection) -> Counts:
    """Count the jobs that are on record, by status."""
    query = sa.select(_jobs.status, sa.func.count()).where(_jobs.removed.is_(None)).group_by(_jobs.status)
    found: Counts = {(status.name.lower(),): 0.0 for status in JobStatus}
    return found | {(JobStatus(status).name.lower(),): float(n) for status, n in connection.execute(query)}


def template_copies(connection: sa.Connection) -> Counts:
    """Count the copies of templates and ISOs on image stores, by state."""
    query = sa.select(_refs.state, sa.func.count()).where(_refs.removed.is_(None)).group_by(_refs.state)
    return {(state.value,): float(n) for state, n in connection.execute(query)}


def virtual_machines(connection: sa.Connection) -> Counts:
    """Count users' VMs, by state."""
    users = (_vms.type == InstanceType.USER, _vms.removed.is_(None))
    query = sa.select(_vms.state, sa.func.count()).where(*users).group_by(_vms.state)
    return {(state.value,): float(n) for state, n in connection.execute(query)}


def system_vms(connection: sa.Connection) -> Counts:
    """Count system VMs by role, state and the state of their agents."""
    query = (
        sa.select(_vms.type, _vms.state, _vms.agent_state, sa.func.count())
        .where(_vms.type.in_(_ROLES), _vms.removed.is_(None))
        .group_by(_vms.type, _vms.state, _vms.agent_state)
    )
    return {
        (_ROLES[kind], state.value, agent.value if agent is not None else ""): float(n)
        for kind, state, agent, n in connection.execute(query)
    }


def store_capacity(connection: sa.Connection) -> Counts:
    """Return the bytes of each image store that was measured, by zone, store and `total` or `used`."""
    query = (
        sa.select(_zones.name, _stores.name, _stores.capacity_bytes, _stores.used_bytes)
        .join(schema.zones, _zones.id == _stores.zone_id)
        .where(_stores.removed.is_(None))
    )
    found: Counts = {}
    for zone, store, total, used in connection.execute(query):
        if total:
            found[zone, store, "total"] = total
        if used is not None:
            found[zone, store, "used"] = used
    return found


def open_alerts(connection: sa.Connection) -> Counts:
    """Count the alerts that were neither archived nor deleted, by type."""
    found: Counts = {(kind.title,): 0.0 for kind in alerts.AlertType}
    return found | {(kind.title,): float(n) for kind, n in alerts.counts(connection).items()}


def topics(*tables: sa.Table) -> tuple[str, ...]:
    return tuple(table.name for table in tables)


#: Each query with the tables that it depends on.
QUERIES: dict[str, tuple[Callable[[sa.Connection], Any], tuple[str, ...]]] = {
    "jobs": (jobs, topics(schema.async_jobs)),
    "template_copies": (template_copies, topics(schema.template_store_refs)),
    "virtual_machines": (virtual_machines, topics(schema.vm_instances)),
    "system_vms": (system_vms, topics(schema.vm_instances)),
    "store_capacity": (store_capacity, topics(schema.image_stores, schema.zones)),
    "open_alerts": (open_alerts, topics(schema.events, schema.vm_instances)),
}
