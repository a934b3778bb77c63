# SPDX-License-Identifier: Apache-2.0
"""Lists of users' volumes, with those columns of their VMs and templates that lists show."""

from __future__ import annotations

import functools
from typing import Any

import attrs
import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema, tags, templates, volumes
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
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.management.state.tags import Wanted
from systemvm.management.state.topics import columns
from systemvm.management.state.volumes import Volume

_c, _vm, _t = schema.volumes.c, schema.vm_instances.c, schema.templates.c
_TOPICS = (
    *columns(
        schema.volumes,
        "removed",
        "account_id",
        "name",
        "type",
        "state",
        "zone_id",
        "vm_id",
        "host_id",
        "pool_id",
    ),
    *columns(schema.vm_instances, "type"),
)

#: By key of the rows.
SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {
    "name": by_name(_c.name),
    "type": _c.type,
    "size": volumes.VIRTUAL_SIZE,
    "state": as_text(_c.state),
    "created": _c.id,
}


@frozen
class VolumeFilter:
    """Conditions for a list of users' volumes; None means any."""

    account_ids: frozenset[int] | None
    uuids: frozenset[str] | None = None
    name: str | None = None  # whatever its case
    type: str | None = None  # whatever its case
    state: str | None = None  # whatever its case
    vm_uuid: str | None = None
    zone_id: int | None = None
    own_directory_of: int | None = None  # a host: only what is in its own directory
    pool_id: int | None = None  # only what is in another pool
    keyword: str | None = None  # in the name, whatever its case
    tags: Wanted | None = None


@frozen
class VolumeInUse:
    """A volume, and what its VM and its template are."""

    volume: Volume
    size_bytes: int | None  # its own, else that of its template
    vm_uuid: str | None
    vm_name: str | None
    vm_display_name: str | None
    vm_state: InstanceState | None
    vm_vcpus: int | None
    vm_memory_mib: int | None
    is_extractable: bool  # as far as its template decides
    template_uuid: str | None
    template_name: str | None


def page(
    connection: sa.Connection, which: VolumeFilter, window: slice, order: Order | None = None
) -> tuple[list[VolumeInUse], int]:
    """Return the volumes in a window of the list, the oldest first, and how many there are in all."""
    listing = _listing(which, order)
    return [_of_row(row) for row in listing.page(connection, window)], listing.count(connection)


def one(connection: sa.Connection, volume: Volume) -> VolumeInUse:
    """Return a volume as a list shows it, even if it is removed."""
    return _of_row(connection.execute(_ROWS.where(_c.id == volume.id)).mappings().one())


def _of_row(row: sa.RowMapping) -> VolumeInUse:
    return VolumeInUse(
        volumes.rows.value(row), row["effective_size_bytes"], **{name: row[name] for name in _MORE}
    )


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: VolumeFilter, order: Order | None) -> Listing:
    return Listing(
        key=("volumes", which),
        rows=_ROWS,
        where=_conditions(which),
        order_by=ordered(SORT_KEYS, order, _c.id),
        topics=(*_TOPICS, *tags.TOPICS) if which.tags else _TOPICS,
    )


def _conditions(which: VolumeFilter) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [
        _c.removed.is_(None),
        sa.or_(_c.vm_id.is_(None), _vm.type == InstanceType.USER),
    ]
    where += that_fit(
        exact=((_c.zone_id, which.zone_id), (_c.pool_id, which.pool_id)),
        texts=((_c.name, which.name), (_c.type, which.type), (as_text(_c.state), which.state)),
        sets=((_c.account_id, which.account_ids), (_c.uuid, which.uuids)),
    )
    if which.own_directory_of is not None:
        where += [_c.host_id == which.own_directory_of, _c.pool_id.is_(None)]
    if which.vm_uuid is not None:
        vm = schema.vm_instances.alias().c
        where.append(_c.vm_id == sa.select(vm.id).where(vm.uuid == which.vm_uuid).scalar_subquery())
    if which.keyword is not None:
        where.append(contains(_c.name, which.keyword))
    if which.tags is not None:
        where.append(tags.has_any(_c.uuid, which.tags))
    return where


_MORE = [field.name for field in attrs.fields(VolumeInUse) if field.name not in ("volume", "size_bytes")]
_ROWS = sa.select(
    *volumes.rows.columns,
    volumes.VIRTUAL_SIZE.label("effective_size_bytes"),
    _vm.uuid.label("vm_uuid"),
    _vm.name.label("vm_name"),
    _vm.display_name.label("vm_display_name"),
    _vm.state.label("vm_state"),
    _vm.vcpus.label("vm_vcpus"),
    _vm.memory_mib.label("vm_memory_mib"),
    sa.func.coalesce(_t.extractable, sa.true()).label("is_extractable"),
    _t.uuid.label("template_uuid"),
    _t.name.label("template_name"),
).select_from(
    schema.volumes.outerjoin(schema.vm_instances, _vm.id == _c.vm_id).outerjoin(
        schema.templates, sa.and_(_t.id == _c.template_id, _t.type.not_in(templates.HIDDEN_TYPES))
    )
)
