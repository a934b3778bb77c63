# SPDX-License-Identifier: Apache-2.0
"""Lists of templates and ISOs: one row for each zone that a template is in."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema, tags, templates
from systemvm.management.state.kept_results import keep
from systemvm.management.state.listing import (
    KEPT_LISTINGS,
    Listing,
    Order,
    by_name,
    contains,
    equals,
    ordered,
)
from systemvm.management.state.tags import Wanted
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.topics import any_of, columns
from systemvm.wire.storage import DownloadState, ImageFormat

_t = schema.templates.c
_r = schema.template_store_refs.c
_z = schema.zones.c
_i = schema.image_stores.c

_TOPICS = (
    *any_of(schema.templates, schema.zones, schema.template_permissions),
    # and not the progress of a download, which is reported every few seconds
    *columns(schema.template_store_refs, "state", "delete_requested", "removed", "store_id"),
    *columns(schema.image_stores, "zone_id"),
)

#: By key of the rows.
SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {
    "name": by_name(_t.name),
    "created": _t.id,
}


class Visibility(enum.Enum):
    """CloudStack's templatefilter and isofilter, and `ANY_USABLE` for a list by id."""

    ALL = "all"
    FEATURED = "featured"
    COMMUNITY = "community"
    SELF = "self"
    SELF_EXECUTABLE = "selfexecutable"
    EXECUTABLE = "executable"
    SHARED = "shared"
    SHARED_EXECUTABLE = "sharedexecutable"
    ANY_USABLE = "usable"

    @property
    def requires_ready(self) -> bool:
        return self.value.endswith("executable")


@frozen
class TemplateFilter:
    """Conditions for a list of templates or ISOs; None means any."""

    is_iso: bool
    visibility: Visibility
    viewer_id: int  # the account that templates can be shared with
    owner_ids: frozenset[int] | None  # accounts whose templates are its own
    ready: bool = False
    zone_id: int | None = None
    uuids: frozenset[str] | None = None
    name: str | None = None
    hypervisor: str | None = None  # whatever its case
    arch: str | None = None
    type: str | None = None  # whatever its case
    os_types: frozenset[str | None] | None = None  # as they are stored
    bootable: bool | None = None
    public: bool | None = None
    keyword: str | None = None  # in name or display text, whatever its case
    tags: Wanted | None = None
    is_unique: bool = False  # each template in one zone only, its own before the others


@frozen
class TemplateCopy:
    """A template in one zone."""

    template: Template
    zone_id: int | None
    refs: Sequence[StoreRef]  # on the stores of that zone, the best first

    @property
    def ref(self) -> StoreRef | None:
        return self.refs[0] if self.refs else None

    @property
    def is_ready(self) -> bool:
        return self.ref is not None and self.ref.is_ready


def page(
    connection: sa.Connection, which: TemplateFilter, window: slice, order: Order | None = None
) -> tuple[list[TemplateCopy], int]:
    """Return the copies in a window of the list, and how many there are in all.

    Without `order` they are in that of their numbers; a template's own zone is before the others.
    """
    listing = _listing(which, order)
    pairs = keep(
        connection,
        ("page of templates", which, order, window.start, window.stop),
        listing.topics,
        lambda reader: [
            (templates.same_rows.value(row[:-1]), row[-1]) for row in listing.read(reader, window)
        ],
        len,
    )
    return with_refs(connection, pairs), listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: TemplateFilter, order: Order | None) -> Listing:
    return Listing(
        key=("templates", which),
        rows=_ROWS,
        where=_conditions(which),
        order_by=ordered(SORT_KEYS, order, *_ORDER),
        topics=(*_TOPICS, *tags.TOPICS) if which.tags else _TOPICS,
    )


def with_refs(connection: sa.Connection, pairs: Sequence[tuple[Template, int | None]]) -> list[TemplateCopy]:
    """Add the copies on image stores to templates in zones."""
    refs = templates.store_refs_by_zone(connection, [template.id for template, _ in pairs])
    return [
        TemplateCopy(template, zone_id, refs.get((template.id, zone_id or 0), []))
        for template, zone_id in pairs
    ]


def in_every_zone(connection: sa.Connection, found: Sequence[Template]) -> list[TemplateCopy]:
    """Return the copies of these templates in all zones that they are in."""
    query = (
        _ROWS.with_only_columns(_t.id, _z.id)
        .where(_t.id.in_([template.id for template in found]))
        .order_by(*_ORDER)
    )
    by_id = {template.id: template for template in found}
    pairs = [(by_id[template_id], zone_id) for template_id, zone_id in connection.execute(query)]
    return with_refs(connection, pairs)


def _is_in_zone(zone: sa.FromClause = schema.zones) -> sa.ColumnElement[bool]:
    """Return the condition that a template is in a zone: in all, in its own, or with a wanted copy there."""
    copied = sa.or_(_t.zone_id.is_(None), _has_copy(zone=zone))
    return sa.or_(zone.c.id == _t.zone_id, sa.and_(zone.c.removed.is_(None), copied))


def _place(zone: sa.FromClause = schema.zones) -> sa.ColumnElement[int]:
    """Return the place of a zone among those of a template: its own is before the others."""
    return sa.case((zone.c.id == _t.zone_id, 0), else_=zone.c.id)


def _first_place(*where: sa.ColumnElement[bool], zone: sa.FromClause) -> sa.ScalarSelect[int]:
    query = sa.select(sa.func.min(_place(zone))).where(_is_in_zone(zone), *where)
    return query.correlate(schema.templates).scalar_subquery()


def _has_copy(*where: sa.ColumnElement[bool], zone: sa.FromClause = schema.zones) -> sa.ColumnElement[bool]:
    wanted = (_r.removed.is_(None), _r.delete_requested.is_(None))
    in_zone = (_r.template_id == _t.id, _r.store_id == _i.id, _i.zone_id == zone.c.id)
    return sa.exists().where(*in_zone, *wanted, *where).correlate(schema.templates, zone)


def _conditions(which: TemplateFilter) -> list[sa.ColumnElement[bool]]:
    is_iso = _t.format == ImageFormat.ISO
    where: list[sa.ColumnElement[bool]] = [_t.removed.is_(None), is_iso if which.is_iso else ~is_iso]
    where.append(_t.type.not_in(templates.HIDDEN_TYPES))
    where.extend(_visible(which))
    is_ready = _r.state == DownloadState.DOWNLOADED
    only_ready = which.ready or which.visibility.requires_ready
    if only_ready:
        where.append(_has_copy(is_ready))
    if which.is_unique and which.zone_id is None:
        other = schema.zones.alias("first_zone")
        ready_there = [_has_copy(is_ready, zone=other)] if only_ready else []
        where.append(_place() == _first_place(*ready_there, zone=other))
    if which.uuids is not None:
        where.append(_t.uuid.in_(which.uuids))
    exact: list[tuple[sa.ColumnElement[Any], Any]] = [
        (_z.id, which.zone_id),
        (_t.name, which.name),
        (_t.arch, which.arch),
        (_t.bootable, which.bootable),
        (_t.public, which.public),
    ]
    where.extend(column == value for column, value in exact if value is not None)
    texts = ((_t.hypervisor, which.hypervisor), (_t.type, which.type))
    where.extend(equals(column, text) for column, text in texts if text is not None)
    if which.os_types is not None:
        named = _t.os_type.in_([name for name in which.os_types if name is not None])
        where.append(sa.or_(named, _t.os_type.is_(None)) if None in which.os_types else named)
    if which.keyword is not None:
        where.append(sa.or_(contains(_t.name, which.keyword), contains(_t.display_text, which.keyword)))
    if which.tags is not None:
        where.append(tags.has_any(_t.uuid, which.tags))
    return where


def _visible(which: TemplateFilter) -> list[sa.ColumnElement[bool]]:
    permissions = schema.template_permissions.c
    with_viewer = sa.select(permissions.template_id).where(permissions.account_id == which.viewer_id)
    shared = _t.id.in_(with_viewer)
    own = sa.true() if which.owner_ids is None else _t.account_id.in_(which.owner_ids)
    match which.visibility:
        case Visibility.ALL:
            return []
        case Visibility.FEATURED:
            return [_t.featured, _t.public]
        case Visibility.COMMUNITY:
            return [_t.public, ~_t.featured]
        case Visibility.SELF | Visibility.SELF_EXECUTABLE:
            return [own]
        case Visibility.EXECUTABLE | Visibility.ANY_USABLE:
            return [] if which.owner_ids is None else [sa.or_(own, _t.public, shared)]
        case Visibility.SHARED | Visibility.SHARED_EXECUTABLE:
            return [shared]


_ORDER = (_t.id, _z.id.is_distinct_from(_t.zone_id), _z.id)
_ROWS = sa.select(*templates.same_rows.columns, _z.id.label("in_zone_id")).select_from(
    sa.join(schema.templates, schema.zones, _is_in_zone())
)
