# SPDX-License-Identifier: Apache-2.0
"""What accounts had in a period, as CloudStack's usage records: from the rows of the objects themselves.

A row of an object stays when the object is removed, with both times. So a record needs no job that counts
once a day, and is right for any period.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema, templates, volumes
from systemvm.management.state.listing import contains
from systemvm.management.state.status import InstanceType
from systemvm.wire.storage import DownloadState, ImageFormat

_vm, _v, _s, _n = schema.vm_instances.c, schema.volumes.c, schema.snapshots.c, schema.guest_networks.c
_t, _refs, _stores = schema.templates.c, schema.template_store_refs.c, schema.image_stores.c


class UsageType(enum.Enum):
    """CloudStack's numbers and descriptions (UsageTypes.java), of what is counted here."""

    ALLOCATED_VM = (2, "Allocated Vm Usage")
    VOLUME = (6, "Volume Usage")
    TEMPLATE = (7, "Template Usage")
    ISO = (8, "ISO Usage")
    SNAPSHOT = (9, "Snapshot Usage")
    NETWORK = (30, "Network usage")

    @property
    def number(self) -> int:
        return self.value[0]

    @property
    def description(self) -> str:
        return self.value[1]


@frozen
class UsageRecord:
    """An object of an account, and the part of a period in which it existed."""

    type: UsageType
    uuid: str
    name: str
    account_id: int
    zone_id: int | None
    size_bytes: int | None  # of the file
    virtual_size_bytes: int | None  # what a VM sees
    vcpus: int | None
    memory_mib: int | None
    template_uuid: str | None
    began: datetime
    ended: datetime

    @property
    def hours(self) -> float:
        return (self.ended - self.began).total_seconds() / 3600


@frozen
class UsageFilter:
    """A period, and conditions for records; None means any."""

    since: datetime
    until: datetime
    account_ids: frozenset[int] | None = None
    type: UsageType | None = None
    uuid: str | None = None  # of the object
    keyword: str | None = None  # in the object's name, whatever its case


def page(connection: sa.Connection, which: UsageFilter, window: slice) -> tuple[list[UsageRecord], int]:
    """Return the records in a window of those that fit, by type and age, and how many fit."""
    found: list[UsageRecord] = []
    count, first = 0, window.start or 0
    for kind in [which.type] if which.type else UsageType:
        query = _objects(kind, which)
        numbers = query.with_only_columns(query.selected_columns.number).subquery()
        fitting = connection.scalar(sa.select(sa.func.count()).select_from(numbers)) or 0
        begin = max(first - count, 0)
        end = fitting if window.stop is None else min(window.stop - count, fitting)
        if begin < end:
            rows = query.order_by("number", "zone_id").limit(end - begin).offset(begin)
            found += [_record(row, kind, which) for row in connection.execute(rows).mappings()]
        count += fitting
    return found, count


def _record(row: sa.RowMapping, kind: UsageType, which: UsageFilter) -> UsageRecord:
    return UsageRecord(
        type=kind,
        uuid=row["uuid"],
        name=row["name"],
        account_id=row["account_id"],
        zone_id=row["zone_id"],
        began=max(row["created"], which.since),
        ended=min(row["ended"] or which.until, which.until),
        **{name: row.get(name) for name in _MORE},
    )


#: The columns of records that objects of some types do not have.
_MORE = ("size_bytes", "virtual_size_bytes", "vcpus", "memory_mib", "template_uuid")


@frozen(eq=False)
class _Objects:
    """Objects of one type: where they are read from, and from when to when they exist."""

    rows: sa.FromClause
    number: sa.ColumnElement[int]
    created: sa.ColumnElement[datetime]
    ended: sa.ColumnElement[datetime | None]
    columns: Mapping[str, sa.ColumnElement[Any]]
    where: tuple[sa.ColumnElement[bool], ...] = ()
    has_copies: bool = False  # several rows are one object in a zone


def _objects(kind: UsageType, which: UsageFilter) -> sa.Select[Any]:
    """Return the objects of a type that existed in the period, or in a part of it."""
    found = _SOURCES[kind]
    columns = found.columns
    where = [*found.where, found.created < which.until]
    # what ends with its creation never was the account's: the disk of a restoration that did not succeed
    lasted = sa.and_(found.ended > which.since, found.ended > found.created)
    where.append(sa.or_(found.ended.is_(None), lasted))
    if which.account_ids is not None:
        where.append(columns["account_id"].in_(which.account_ids))
    if which.uuid is not None:
        where.append(columns["uuid"] == which.uuid)
    if which.keyword is not None:
        where.append(contains(columns["name"], which.keyword))
    created, ended = found.created, found.ended
    if found.has_copies:
        created = sa.func.min(created)
        ended = sa.case((sa.func.count(ended) == sa.func.count(), sa.func.max(ended)))
    query = (
        sa.select(
            found.number.label("number"),
            created.label("created"),
            ended.label("ended"),
            *(column.label(name) for name, column in columns.items()),
        )
        .select_from(found.rows)
        .where(*where)
    )
    return query.group_by(found.number, columns["zone_id"]) if found.has_copies else query


def _of(columns: Any, **others: sa.ColumnElement[Any]) -> dict[str, sa.ColumnElement[Any]]:
    return {name: columns[name] for name in ("uuid", "name", "account_id", "zone_id")} | others


def _images(of_kind: sa.ColumnElement[bool]) -> _Objects:
    """Return templates or ISOs, once for each zone: from the first copy there to the end of the last.

    Only copies that existed in the period count.
    """
    return _Objects(
        schema.template_store_refs.join(schema.templates, _t.id == _refs.template_id).join(
            schema.image_stores, _stores.id == _refs.store_id
        ),
        _t.id, _refs.created, sa.func.coalesce(_refs.delete_requested, _refs.removed),
        _of(
            _t,
            zone_id=_stores.zone_id,
            size_bytes=sa.func.max(_refs.physical_size_bytes),
            virtual_size_bytes=sa.func.max(_refs.virtual_size_bytes),
        ),
        (of_kind, _t.type.not_in(templates.HIDDEN_TYPES), _refs.state == DownloadState.DOWNLOADED),
        has_copies=True,
    )  # fmt: skip


_used = schema.templates.alias()
_SOURCES = {
    UsageType.ALLOCATED_VM: _Objects(
        schema.vm_instances.outerjoin(_used, _used.c.id == _vm.template_id),
        _vm.id, _vm.created, _vm.removed,
        _of(_vm, vcpus=_vm.vcpus, memory_mib=_vm.memory_mib, template_uuid=_used.c.uuid),
        (_vm.type == InstanceType.USER,),
    ),
    UsageType.VOLUME: _Objects(
        schema.volumes.outerjoin(schema.vm_instances, _vm.id == _v.vm_id),
        _v.id, _v.created, _v.removed, _of(_v, size_bytes=volumes.VIRTUAL_SIZE),
        (sa.or_(_v.vm_id.is_(None), _vm.type == InstanceType.USER),),
    ),
    UsageType.TEMPLATE: _images(_t.format != ImageFormat.ISO),
    UsageType.ISO: _images(_t.format == ImageFormat.ISO),
    UsageType.SNAPSHOT: _Objects(
        schema.snapshots, _s.id, _s.created, _s.removed,
        _of(_s, size_bytes=_s.physical_size_bytes, virtual_size_bytes=_s.size_bytes),
        (_s.physical_size_bytes.is_not(None),),
    ),
    UsageType.NETWORK: _Objects(
        schema.guest_networks, _n.id, _n.created, _n.removed, _of(_n), (_n.account_id.is_not(None),)
    ),
}  # fmt: skip
