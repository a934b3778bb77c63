# SPDX-License-Identifier: Apache-2.0
"""Lists of users' VMs."""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import instances, schema, tags
from systemvm.management.state.instances import Instance
from systemvm.management.state.listing import (
    KEPT_LISTINGS,
    Listing,
    Order,
    as_text,
    by_name,
    contains,
    equals,
    ordered,
)
from systemvm.management.state.status import InstanceState, InstanceType
from systemvm.management.state.tags import Wanted
from systemvm.management.state.topics import columns

_v = schema.vm_instances.c
_ROWS = sa.select(*instances.rows.columns)
_TOPICS = (
    *columns(
        schema.vm_instances,
        *("removed", "state", "account_id", "name", "display_name", "instance_name", "arch"),
        *("zone_id", "template_id", "iso_id", "host_id", "hypervisor", "vcpus", "memory_mib"),
    ),
    *columns(schema.templates),
)


@frozen
class Size:
    vcpus: int
    memory_mib: int


#: By key of the rows.
SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {
    "name": by_name(_v.name),
    "state": as_text(_v.state),
    "created": _v.id,
}


@frozen
class InstanceFilter:
    """Conditions for a list of users' VMs; None means any."""

    owner_ids: frozenset[int] | None
    includes_gone: bool  # those that are Destroyed or Expunging
    uuids: frozenset[str] | None = None
    name: str | None = None  # whatever its case
    state: str | None = None  # whatever its case
    zone_ids: frozenset[int] | None = None
    template_uuid: str | None = None  # of the template, or of the ISO of a VM without one
    iso_uuid: str | None = None
    host_id: int | None = None  # where it has a process
    hypervisor: str | None = None  # whatever its case
    arch: str | None = None
    sizes: frozenset[Size] | None = None
    other_sizes_than: frozenset[Size] | None = None
    keyword: str | None = None  # in one of its names, whatever its case
    tags: Wanted | None = None
    on_network: int | None = None  # of state/guest_networks.py; 0: the zone's own


def page(
    connection: sa.Connection, which: InstanceFilter, window: slice, order: Order | None = None
) -> tuple[list[Instance], int]:
    """Return the VMs in a window of the list, the oldest first, and how many there are in all."""
    listing = _listing(which, order)
    found = [instances.rows.value(row) for row in listing.page(connection, window)]
    return found, listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: InstanceFilter, order: Order | None) -> Listing:
    return Listing(
        key=("machines", which),
        rows=_ROWS,
        where=_conditions(which),
        order_by=ordered(SORT_KEYS, order, _v.id),
        topics=(
            *_TOPICS,
            *(tags.TOPICS if which.tags else ()),
            *(columns(schema.nics, "removed") if which.on_network is not None else ()),
        ),
    )


def _conditions(which: InstanceFilter) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [_v.removed.is_(None), _v.type == InstanceType.USER]
    if not which.includes_gone:
        where.append(_v.state.not_in(InstanceState.gone()))
    if which.host_id is not None:
        with_process = InstanceState.with_process()
        where.extend((_v.host_id == which.host_id, _v.state.in_(with_process)))
    if which.arch is not None:
        where.append(_v.arch == which.arch)
    sets: tuple[tuple[sa.ColumnElement[Any], Any], ...] = (
        (_v.account_id, which.owner_ids),
        (_v.uuid, which.uuids),
        (_v.zone_id, which.zone_ids),
    )
    where.extend(column.in_(values) for column, values in sets if values is not None)
    texts: tuple[tuple[sa.ColumnElement[Any], str | None], ...] = (
        (_v.name, which.name),
        (sa.type_coerce(_v.state, sa.String), which.state),
        (_v.hypervisor, which.hypervisor),
    )
    where.extend(equals(column, text) for column, text in texts if text is not None)
    if which.template_uuid is not None:
        where.append(_v.template_id == _with_uuid(which.template_uuid))
    if which.iso_uuid is not None:
        where.append(_v.iso_id == _with_uuid(which.iso_uuid))
    if which.sizes is not None:
        where.append(_has_size(which.sizes))
    if which.other_sizes_than is not None:
        where.append(~_has_size(which.other_sizes_than))
    if which.keyword is not None:
        names = (_v.name, _v.display_name, _v.instance_name)
        where.append(sa.or_(*(contains(name, which.keyword) for name in names)))
    if which.on_network is not None:
        where.append(_is_on(which.on_network))
    if which.tags is not None:
        where.append(tags.has_any(_v.uuid, which.tags))
    return where


def _with_uuid(template_uuid: str) -> sa.ScalarSelect[Any]:
    templates = schema.templates.c
    return sa.select(templates.id).where(templates.uuid == template_uuid).scalar_subquery()


def _is_on(network_id: int) -> sa.ColumnElement[bool]:
    n = schema.nics.c
    nic = sa.exists().where(n.vm_id == _v.id, n.removed.is_(None))
    if network_id:
        return nic.where(n.guest_network_id == network_id)
    # rows of other hosts' VMs have no NIC
    return sa.or_(nic.where(n.guest_network_id.is_(None)), ~nic)


def _has_size(sizes: frozenset[Size]) -> sa.ColumnElement[bool]:
    each = (sa.and_(_v.vcpus == size.vcpus, _v.memory_mib == size.memory_mib) for size in sizes)
    return sa.or_(sa.false(), *each)
