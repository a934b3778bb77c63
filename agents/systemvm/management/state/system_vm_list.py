# SPDX-License-Identifier: Apache-2.0
"""Lists of system VMs."""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import instances, schema
from systemvm.management.state.instances import SYSTEM_TYPES, Instance
from systemvm.management.state.listing import (
    KEPT_LISTINGS,
    Listing,
    Order,
    as_text,
    by_name,
    contains,
    ordered,
    that_fit,
)
from systemvm.management.state.status import InstanceType
from systemvm.management.state.topics import columns

_v = schema.vm_instances.c
_ROWS = sa.select(*instances.rows.columns)
_TOPICS = columns(
    schema.vm_instances, "removed", "instance_name", "state", "type", "zone_id", "host_id", "arch"
)

#: By key of the rows.
SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {
    "name": by_name(_v.instance_name),
    "state": as_text(_v.state),
    "created": _v.id,
}


@frozen
class SystemVmFilter:
    """Conditions for a list of system VMs; None means any."""

    uuid: str | None = None
    name: str | None = None  # whatever its case
    state: str | None = None  # whatever its case
    type: InstanceType | None = None
    zone_id: int | None = None
    host_id: int | None = None
    arch: str | None = None
    keyword: str | None = None  # in the name, whatever its case


def page(
    connection: sa.Connection, which: SystemVmFilter, window: slice, order: Order | None = None
) -> tuple[list[Instance], int]:
    """Return the system VMs in a window of the list, the oldest first, and how many there are in all."""
    listing = _listing(which, order)
    found = [instances.rows.value(row) for row in listing.page(connection, window)]
    return found, listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: SystemVmFilter, order: Order | None) -> Listing:
    where: list[sa.ColumnElement[bool]] = [_v.removed.is_(None), _v.type.in_(SYSTEM_TYPES)]
    where += that_fit(
        exact=(
            (_v.uuid, which.uuid),
            (_v.type, which.type),
            (_v.zone_id, which.zone_id),
            (_v.host_id, which.host_id),
            (_v.arch, which.arch),
        ),
        texts=((_v.instance_name, which.name), (as_text(_v.state), which.state)),
    )
    if which.keyword is not None:
        where.append(contains(_v.instance_name, which.keyword))
    return Listing(
        key=("system VMs", which),
        rows=_ROWS,
        where=where,
        order_by=ordered(SORT_KEYS, order, _v.id),
        topics=_TOPICS,
    )
