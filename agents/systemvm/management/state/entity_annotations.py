# SPDX-License-Identifier: Apache-2.0
"""Annotations of objects, by the object's type and UUID.

The types are those of CloudStack (AnnotationService.EntityType) whose objects are here.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.listing import KEPT_LISTINGS, Listing, contains, is_present, that_fit
from systemvm.management.state.rows import AT_ONCE, NotFoundError, Rows
from systemvm.management.state.status import InstanceType
from systemvm.management.state.topics import columns
from systemvm.wire.storage import ImageFormat


@frozen
class Annotation:
    """A text about an object."""

    id: int
    uuid: str
    created: datetime
    entity_type: str
    entity_uuid: str
    account_id: int | None  # the object's owner; None: the installation
    user_id: int
    annotation: str
    admins_only: bool


@frozen
class AnnotationFilter:
    """Conditions for annotations; None means any."""

    reader_ids: frozenset[int] | None = None  # owners of objects; others' and those for administrators not
    uuid: str | None = None
    entity_type: str | None = None
    entity_uuid: str | None = None
    user_id: int | None = None
    keyword: str | None = None  # in the text, whatever its case


@frozen
class EntityType:
    """The objects of a type: their table, and which of its rows they are."""

    table: sa.Table
    label: str
    is_of_users: bool  # has an owner, who can annotate it
    condition: sa.ColumnElement[bool]

    def is_present(self, uuid: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        """Return the condition that there is an object with this UUID."""
        return is_present(self.table, uuid, self.condition)


_vm, _template = schema.vm_instances.c, schema.templates.c
_USERS_VM = _vm.type == InstanceType.USER
_ISO = _template.format == ImageFormat.ISO

ENTITY_TYPES: Mapping[str, EntityType] = {
    "VM": EntityType(schema.vm_instances, "virtual machine", True, _USERS_VM),
    "VOLUME": EntityType(schema.volumes, "volume", True, sa.true()),
    "SNAPSHOT": EntityType(schema.snapshots, "snapshot", True, sa.true()),
    "NETWORK": EntityType(schema.guest_networks, "network of createNetwork", True, sa.true()),
    "TEMPLATE": EntityType(schema.templates, "template", True, ~_ISO),
    "ISO": EntityType(schema.templates, "ISO", True, _ISO),
    "SYSTEM_VM": EntityType(schema.vm_instances, "system VM", False, ~_USERS_VM),
    "SERVICE_OFFERING": EntityType(schema.service_offerings, "service offering", False, sa.true()),
    "DISK_OFFERING": EntityType(schema.disk_offerings, "disk offering", False, sa.true()),
    "ZONE": EntityType(schema.zones, "zone", False, sa.true()),
    "POD": EntityType(schema.pods, "pod", False, sa.true()),
    "CLUSTER": EntityType(schema.clusters, "cluster", False, sa.true()),
    "HOST": EntityType(schema.hosts, "host", False, sa.true()),
    "DOMAIN": EntityType(schema.domains, "domain", False, sa.true()),
    "PRIMARY_STORAGE": EntityType(schema.storage_pools, "storage pool", False, sa.true()),
    "SECONDARY_STORAGE": EntityType(schema.image_stores, "image store", False, sa.true()),
}

rows = Rows(schema.entity_annotations, Annotation, "annotation")
_c = schema.entity_annotations.c
_ROWS = sa.select(*rows.columns).select_from(schema.entity_annotations)
_TOPICS = (
    *columns(schema.entity_annotations, "admins_only"),
    *(topic for entity in ENTITY_TYPES.values() for topic in columns(entity.table, "removed")),
)


def owner_of(connection: sa.Connection, kind: str, uuid: str) -> int | None:
    """Return the number of the account that owns an object; None when nobody does.

    Raises: NotFoundError when there is no such object of this type.
    """
    entity = ENTITY_TYPES[kind]
    if not connection.scalar(sa.select(entity.is_present(sa.literal(uuid)))):
        raise NotFoundError(f"there is no {entity.label} with the id {uuid}", value=uuid)
    if not entity.is_of_users:
        return None
    number: int | None = connection.scalar(
        sa.select(entity.table.c.account_id).where(entity.table.c.uuid == uuid)
    )
    return number


def page(connection: sa.Connection, which: AnnotationFilter, window: slice) -> tuple[list[Annotation], int]:
    """Return the annotations in a window of those that fit, the newest first, and how many fit.

    Those of removed objects are not among them.
    """
    listing = _listing(which)
    return [rows.value(row) for row in listing.page(connection, window)], listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: AnnotationFilter) -> Listing:
    where = that_fit(
        exact=(
            (_c.uuid, which.uuid),
            (_c.entity_type, which.entity_type),
            (_c.entity_uuid, which.entity_uuid),
            (_c.user_id, which.user_id),
        ),
        sets=((_c.account_id, which.reader_ids),),
    )
    if which.reader_ids is not None:
        where.append(_c.admins_only.is_(False))
    if which.keyword is not None:
        where.append(contains(_c.annotation, which.keyword))
    kinds = ENTITY_TYPES if which.entity_type is None else [which.entity_type]
    present = ((_c.entity_type == kind) & ENTITY_TYPES[kind].is_present(_c.entity_uuid) for kind in kinds)
    where.append(sa.or_(*present))
    return Listing(
        key=("annotations", which), rows=_ROWS, where=where, order_by=(_c.id.desc(),), topics=_TOPICS
    )


def names(connection: sa.Connection, found: Sequence[Annotation]) -> dict[str, str]:
    """Return the names of the annotated objects, by their UUIDs."""
    uuids: dict[str, set[str]] = defaultdict(set)
    for each in found:
        uuids[each.entity_type].add(each.entity_uuid)
    known: dict[str, str] = {}
    for kind, some in uuids.items():
        wanted = sorted(some)
        c = ENTITY_TYPES[kind].table.c
        name = c.instance_name if kind == "SYSTEM_VM" else c.name
        for begin in range(0, len(wanted), AT_ONCE):
            query = sa.select(c.uuid, name).where(c.uuid.in_(wanted[begin : begin + AT_ONCE]))
            known.update((uuid, text) for uuid, text in connection.execute(query))
    return known


def delete(connection: sa.Connection, annotation_id: int) -> None:
    connection.execute(schema.entity_annotations.delete().where(_c.id == annotation_id))
