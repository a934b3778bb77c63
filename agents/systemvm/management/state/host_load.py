# SPDX-License-Identifier: Apache-2.0
"""How many VMs each host has, and the processors and memory of those that run: one grouped query."""

from __future__ import annotations

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.status import InstanceState


@frozen
class HostLoad:
    machines: int = 0
    vcpus: int = 0  # of VMs that have a process
    memory_mib: int = 0


IDLE = HostLoad()


def by_host(connection: sa.Connection, host_id: int | None = None) -> dict[int, HostLoad]:
    """Return the load of each host that has VMs, system VMs among them; or only that of one host."""
    v = schema.vm_instances.c
    runs = v.state.in_(InstanceState.with_process())
    query = (
        sa.select(
            v.host_id,
            sa.func.count(),
            sa.func.sum(sa.case((runs, v.vcpus), else_=0)),
            sa.func.sum(sa.case((runs, v.memory_mib), else_=0)),
        )
        .where(v.removed.is_(None), v.host_id.is_not(None))
        .group_by(v.host_id)
    )
    if host_id is not None:
        query = query.where(v.host_id == host_id)
    return {host: HostLoad(count, vcpus, memory) for host, count, vcpus, memory in connection.execute(query)}
