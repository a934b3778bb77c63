# SPDX-License-Identifier: Apache-2.0
"""CloudStack's alerts: the events that an operator must know of.

There is no table of alerts. An alert is an event of one of these types; `removed` of its row means that it
was archived or deleted as an alert. The event stays where listEvents finds it. The other way round, a row
with `only_alert` was deleted as an event, and is deleted when the alert is taken away.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.listing import Listing, Order, contains, ordered
from systemvm.management.state.status import InstanceType
from systemvm.management.state.topics import columns


class AlertType(enum.Enum):
    """CloudStack's numbers and names (AlertService.java)."""

    SECONDARY_STORAGE = (6, "ALERT.STORAGE.SECONDARY")
    HOST = (7, "ALERT.COMPUTE.HOST")
    CONSOLE_PROXY = (10, "ALERT.SERVICE.CONSOLEPROXY")
    SSVM = (19, "ALERT.SERVICE.SSVM")
    UPLOAD_FAILED = (28, "ALERT.UPLOAD.FAILED")  # downloads to secondary storage, too
    CA_CERTIFICATE = (31, "ALERT.CA.CERT")

    @property
    def number(self) -> int:
        return self.value[0]

    @property
    def title(self) -> str:
        return self.value[1]


@frozen
class Alert:
    id: int
    uuid: str
    type: AlertType
    description: str
    created: datetime


@frozen
class AlertFilter:
    """Conditions for alerts; None means any."""

    uuids: frozenset[str] | None = None
    type: int | None = None
    name: str | None = None  # whatever its case
    keyword: str | None = None  # in the description, whatever its case
    since: datetime | None = None
    before: datetime | None = None


_c, _vm = schema.events.c, schema.vm_instances.c
_BY_EVENT = {
    AlertType.SECONDARY_STORAGE: ("ALERT.STORAGE.SECONDARY",),
    AlertType.HOST: ("HOST.ALERT",),
    AlertType.CONSOLE_PROXY: ("PROXY.START", "PROXY.STOP", "PROXY.PATCH"),
    AlertType.SSVM: ("SSVM.START", "SSVM.STOP", "SSVM.PATCH"),
    AlertType.UPLOAD_FAILED: ("ALERT.UPLOAD.FAILED", "TEMPLATE.DOWNLOAD.FAILED", "ISO.DOWNLOAD.FAILED"),
    AlertType.CA_CERTIFICATE: ("ALERT.CA.CERT",),
}
#: Of generateAlert, by CloudStack's number.
GENERATED = {kind: f"ALERT.GENERATED.{kind.number}" for kind in AlertType}
_BY_EVENT = {kind: (*kinds, GENERATED[kind]) for kind, kinds in _BY_EVENT.items()}
_AGENT = "AGENT.ALERT"  # of both roles
_EVENTS = (_AGENT, *(kind for kinds in _BY_EVENT.values() for kind in kinds))
_is_of_proxy = sa.exists().where(_vm.uuid == _c.resource_uuid, _vm.type == InstanceType.CONSOLE_PROXY)
_number = sa.case(
    *((_c.type.in_(kinds), kind.number) for kind, kinds in _BY_EVENT.items()),
    (_is_of_proxy, AlertType.CONSOLE_PROXY.number),
    else_=AlertType.SSVM.number,
)
_BY_NUMBER = {kind.number: kind for kind in AlertType}
_ROWS = sa.select(_c.id, _c.uuid, _number, _c.description, _c.created)
#: By key of the rows.
SORT_KEYS: dict[str, sa.ColumnElement[Any]] = {
    "sent": _c.created,
    "name": sa.case(*((_number == kind.number, kind.title) for kind in AlertType)),
    "description": sa.func.lower(_c.description),
}


def page(
    connection: sa.Connection, which: AlertFilter, window: slice, order: Order | None = None
) -> tuple[list[Alert], int]:
    """Return the alerts in a window of those that fit, the newest first by default, and how many fit."""
    listing = Listing(
        key=("alerts", which),
        rows=_ROWS,
        where=_conditions(which),
        order_by=ordered(SORT_KEYS, order or Order("sent", descending=True), _c.id),
        topics=(
            f"{schema.events.name}:deleted",
            f"{schema.events.name}.removed",
            *columns(schema.vm_instances, "type"),
        ),
        growing_id=_c.id,
    )
    return [_alert(*row) for row in listing.read(connection, window)], listing.count(connection)


def after(connection: sa.Connection, event_id: int, most: int) -> tuple[list[Alert], int]:
    """Return the newest alerts after an event, the newest first, and how many there are after it."""
    where = (*_conditions(AlertFilter()), _c.id > event_id)
    found = connection.execute(_ROWS.where(*where).order_by(_c.id.desc()).limit(most))
    count = connection.scalar(sa.select(sa.func.count()).select_from(schema.events).where(*where))
    return [_alert(*row) for row in found], count or 0


def counts(connection: sa.Connection) -> dict[AlertType, int]:
    """Return how many alerts of each type there are; none of a type without any."""
    query = sa.select(_number, sa.func.count()).where(*_conditions(AlertFilter())).group_by(_number)
    return {_BY_NUMBER[kind]: number for kind, number in connection.execute(query)}


def take_away(connection: sa.Connection, which: AlertFilter) -> int:
    """Archive or delete the alerts that fit; return how many did."""
    where = _conditions(which)
    only_alerts = connection.execute(schema.events.delete().where(*where, _c.only_alert)).rowcount
    fitting = schema.events.update().where(*where)
    return only_alerts + connection.execute(fitting.values(removed=now())).rowcount


def is_open() -> sa.ColumnElement[bool]:
    """Return the condition that an event is an alert that was not taken away.

    It is computed for each row: SQLite finds the rows by what else a statement requires.
    """
    return sa.case((sa.and_(*_conditions(AlertFilter())), True), else_=False).is_(True)


def _alert(number: int, uuid: str, kind: int, text: str, created: datetime) -> Alert:
    return Alert(number, uuid, _BY_NUMBER[kind], text, created)


def _conditions(which: AlertFilter) -> Sequence[sa.ColumnElement[bool]]:
    # not the two other levels: SQLite would read all events of those by their index
    where: list[sa.ColumnElement[bool]] = [
        _c.type.in_(_EVENTS), _c.level != "INFO", _c.removed.is_(None)
    ]  # fmt: skip
    if which.uuids is not None:
        where.append(_c.uuid.in_(which.uuids))
    if which.name is not None:
        named = [kind.number for kind in AlertType if kind.title.lower() == which.name.lower()]
        where.append(_number.in_(named))
    if which.type is not None:
        where.append(_number == which.type)
    if which.keyword is not None:
        where.append(contains(_c.description, which.keyword))
    if which.since is not None:
        where.append(_c.created >= which.since)
    if which.before is not None:
        where.append(_c.created < which.before)
    return where
