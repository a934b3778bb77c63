# SPDX-License-Identifier: Apache-2.0
"""Tags of objects, by the object's UUID."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.kept_results import keep
from systemvm.management.state.listing import KEPT_LISTINGS, Listing, contains, is_present, that_fit
from systemvm.management.state.rows import Rows, one_of
from systemvm.management.state.same_rows import SameRows
from systemvm.management.state.topics import columns


@frozen
class Tag:
    id: int
    account_id: int
    resource_type: str
    resource_uuid: str
    key: str
    value: str


@frozen
class TagFilter:
    """Conditions for tags; None means any."""

    account_ids: frozenset[int] | None = None
    resource_uuid: str | None = None
    resource_type: str | None = None
    key: str | None = None
    value: str | None = None
    keyword: str | None = None  # in the key, whatever its case


#: Keys and values of which an object has at least one.
Wanted = frozenset[tuple[str, str]]

rows = Rows(schema.resource_tags, Tag, "tag")
_c = schema.resource_tags.c
_OF_OBJECTS = SameRows(rows).prepared(_c.resource_uuid.in_(one_of("uuids")), order_by=[_c.key])
#: What a list of tagged objects depends on, besides their own table: a tag is never changed.
TOPICS = columns(schema.resource_tags)
_TAGGED = (
    schema.vm_instances,
    schema.templates,
    schema.volumes,
    schema.snapshots,
    schema.guest_networks,
)
_ROWS = sa.select(*rows.columns).select_from(schema.resource_tags)


def has_any(uuid: sa.ColumnElement[str], wanted: Wanted) -> sa.ColumnElement[bool]:
    """Return the condition that the object with this UUID has one of these tags."""
    one_of = (sa.and_(_c.key == key, _c.value == value) for key, value in sorted(wanted))
    return sa.exists().where(_c.resource_uuid == uuid, sa.or_(*one_of))


def of_objects(connection: sa.Connection, uuids: Collection[str]) -> Mapping[str, list[Tag]]:
    """Return the tags of objects, by their UUIDs, in the order of keys."""
    return keep(
        connection,
        ("tags of", *uuids),
        TOPICS,
        lambda reader: _of_objects(reader, list(uuids)),
        lambda found: 1 + len(uuids) + sum(map(len, found.values())),  # the key has all UUIDs
    )


def _of_objects(connection: sa.Connection, uuids: Sequence[str]) -> Mapping[str, list[Tag]]:
    found: dict[str, list[Tag]] = defaultdict(list)
    if uuids:
        for tag in _OF_OBJECTS.all(connection, uuids=uuids):
            found[tag.resource_uuid].append(tag)
    return dict(found)


def page(connection: sa.Connection, which: TagFilter, window: slice) -> tuple[list[Tag], int]:
    """Return the tags in a window of those that fit, the oldest first, and how many fit.

    Those of removed objects are not among them.
    """
    listing = _listing(which)
    return [rows.value(row) for row in listing.page(connection, window)], listing.count(connection)


@functools.lru_cache(KEPT_LISTINGS)
def _listing(which: TagFilter) -> Listing:
    where = that_fit(
        exact=(
            (_c.resource_uuid, which.resource_uuid),
            (_c.resource_type, which.resource_type),
            (_c.key, which.key),
            (_c.value, which.value),
        ),
        sets=((_c.account_id, which.account_ids),),
    )
    if which.keyword is not None:
        where.append(contains(_c.key, which.keyword))
    where.append(sa.or_(*(is_present(owner, _c.resource_uuid) for owner in _TAGGED)))
    return Listing(
        key=("tags", which),
        rows=_ROWS,
        where=where,
        order_by=(_c.id,),
        topics=(*TOPICS, *(topic for owner in _TAGGED for topic in columns(owner, "removed"))),
    )


def add(
    connection: sa.Connection, kind: str, resource_uuid: str, account_id: int, given: Mapping[str, str]
) -> None:
    for key, value in given.items():
        rows.insert(
            connection, account_id=account_id, resource_type=kind, resource_uuid=resource_uuid, key=key,
            value=value,
        )  # fmt: skip


def delete(
    connection: sa.Connection, resource_uuids: Iterable[str], named: Mapping[str, str | None] | None
) -> int:
    """Delete tags of objects: those named, with their value if one is given, or all. Return how many."""
    where: sa.ColumnElement[bool] = _c.resource_uuid.in_(list(resource_uuids))
    if named is not None:
        fitting = [
            _c.key == key if value is None else sa.and_(_c.key == key, _c.value == value)
            for key, value in named.items()
        ]
        where = sa.and_(where, sa.or_(sa.false(), *fitting))
    return connection.execute(schema.resource_tags.delete().where(where)).rowcount
