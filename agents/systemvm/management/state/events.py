# SPDX-License-Identifier: Apache-2.0
"""CloudStack's events: what happened, when, to which object, by which user."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import alerts, schema
from systemvm.management.state.accounts import SYSTEM_ACCOUNT_ID
from systemvm.management.state.listing import Listing, Order, contains
from systemvm.management.state.rows import NotFoundError, Rows
from systemvm.management.state.topics import columns
from systemvm.service.redaction import redact_urls


@frozen
class Event:
    id: int
    uuid: str
    account_id: int
    domain_id: int
    user_id: int | None
    type: str
    level: str
    state: str
    description: str
    resource_type: str | None
    resource_uuid: str | None
    job_uuid: str | None
    request_id: str | None
    created: datetime
    archived: bool


rows = Rows(schema.events, Event, "event")
_c = schema.events.c
_ROWS = sa.select(*rows.columns)
#: By key of the rows.
SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {"created": _c.created, "type": _c.type, "level": _c.level}


def record(
    connection: sa.Connection,
    /,
    kind: str,
    description: str,
    *,
    account_id: int = SYSTEM_ACCOUNT_ID,
    level: str = "INFO",
    **columns: Any,
) -> Event:
    """Record an event; `columns` are further columns, such as resource_type and resource_uuid."""
    return rows.insert(
        connection,
        type=kind,
        description=redact_urls(description),
        account_id=account_id,
        level=level,
        **columns,
    )


@frozen
class EventFilter:
    """Conditions for a list of events; None means any."""

    account_ids: frozenset[int] | None = None
    uuid: str | None = None
    type: str | None = None
    level: str | None = None
    state: str | None = None  # whatever its case
    resource_uuid: str | None = None
    resource_type: str | None = None  # whatever its case
    vm_uuid: str | None = None  # events of the VM and of its consoles
    keyword: str | None = None  # in the description, whatever its case
    request_id: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    uuids: frozenset[str] | None = None
    ids: tuple[int, ...] | None = None  # their numbers
    archived: bool | None = None


def newest(connection: sa.Connection, limit: int, which: EventFilter = EventFilter()) -> list[Event]:
    """Return at most `limit` events that fit, the newest first.

    Raises: NotFoundError when there never was a VM `vm_uuid`.
    """
    where = _conditions(connection, which)
    return rows.all(connection, *where, order_by=(_c.created.desc(), _c.id.desc()), limit=limit)


def page(
    connection: sa.Connection, which: EventFilter, window: slice, order: Order | None = None
) -> tuple[list[Event], int]:
    """Return the events in a window of those that fit, by default the newest first, and how many fit.

    Raises: NotFoundError when there never was a VM `vm_uuid`.
    """
    listing = Listing(
        key=("events", which),
        rows=_ROWS,
        where=_conditions(connection, which),
        order_by=_order_by(order),
        # only archiving and deleting change events, but a console's session makes others those of a VM
        topics=(
            f"{schema.events.name}:deleted",
            f"{schema.events.name}.archived",
            f"{schema.events.name}.only_alert",
            *columns(schema.console_sessions),
        ),
        growing_id=_c.id,
    )
    found = [rows.value(row) for row in listing.page(connection, window)]
    return found, listing.count(connection)


def numbers(connection: sa.Connection, which: EventFilter, after: int, most: int) -> list[int]:
    """Return the numbers of the first events after this one that fit, in their order."""
    query = sa.select(_c.id).where(*_conditions(connection, which), _c.id > after)
    return list(connection.scalars(query.order_by(_c.id).limit(most)))


def archive(connection: sa.Connection, which: EventFilter) -> int:
    """Archive the events that fit; return how many."""
    where = _conditions(connection, which)
    return connection.execute(schema.events.update().where(*where).values(archived=True)).rowcount


def delete(connection: sa.Connection, which: EventFilter) -> int:
    """Delete the events that fit; return how many. Rows of alerts that are still open stay for the alerts."""
    where = _conditions(connection, which)
    marking = schema.events.update().where(*where, alerts.is_open()).values(only_alert=True)
    marked = connection.execute(marking).rowcount
    return marked + connection.execute(schema.events.delete().where(*where)).rowcount


def _order_by(order: Order | None) -> Sequence[sa.ColumnElement[Any]]:
    """Return what a list is ordered by: all of it in one direction, in which an index can be read."""
    order = order or Order("created", descending=True)
    keys = dict.fromkeys((SORT_KEYS[order.by], _c.created, _c.id))
    return [key.desc() if order.descending else key for key in keys]


def _conditions(connection: sa.Connection, which: EventFilter) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [_c.only_alert.is_(False)]
    if which.account_ids is not None:
        where.append(_c.account_id.in_(which.account_ids))
    for column, value in (
        (_c.uuid, which.uuid),
        (_c.type, which.type),
        (_c.level, which.level),
        (_c.resource_uuid, which.resource_uuid),
        (_c.request_id, which.request_id),
    ):
        if value is not None:
            where.append(column == value)
    for column, value in ((_c.resource_type, which.resource_type), (_c.state, which.state)):
        if value is not None:
            where.append(sa.func.lower(column) == value.lower())
    if which.uuids is not None:
        where.append(_c.uuid.in_(which.uuids))
    if which.ids is not None:
        where.append(_c.id.in_(which.ids))
    if which.archived is not None:
        where.append(_c.archived.is_(which.archived))
    if which.since is not None:
        where.append(_c.created >= which.since)
    if which.before is not None:
        where.append(_c.created < which.before)
    if which.keyword is not None:
        where.append(contains(_c.description, which.keyword))
    if which.vm_uuid is not None:
        where.append(_of_vm_and_its_consoles(connection, which.vm_uuid))
    return where


def _of_vm_and_its_consoles(connection: sa.Connection, vm_uuid: str) -> sa.ColumnElement[bool]:
    vm, session = schema.vm_instances.c, schema.console_sessions.c
    vm_id = connection.scalar(sa.select(vm.id).where(vm.uuid == vm_uuid))
    if vm_id is None:
        raise NotFoundError(f"there is no machine with the id {vm_uuid}", value=vm_uuid)
    of_consoles = sa.select(session.uuid).where(session.vm_id == vm_id)
    return sa.or_(_c.resource_uuid == vm_uuid, _c.resource_uuid.in_(of_consoles))
