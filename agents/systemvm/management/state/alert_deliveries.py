# SPDX-License-Identifier: Apache-2.0
"""How far alerts were delivered by each way out. What waits are the alerts after an event, not copies."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.alerts import Alert, after
from systemvm.management.state.rows import Rows


@frozen
class Delivery:
    id: int
    way: str
    event_id: int  # the last event that needs no delivery any more
    next_try: datetime
    failures: int  # since the last success
    reason: str | None
    hint: str | None
    succeeded: datetime | None


rows = Rows(schema.alert_deliveries, Delivery, "delivery of alerts")
_c = schema.alert_deliveries.c


def of_way(connection: sa.Connection, way: str) -> Delivery | None:
    return rows.one(connection, _c.way == way)


def begin(connection: sa.Connection, way: str, moment: datetime) -> Delivery:
    """Begin with the alerts after this moment: a new way out does not get the old ones."""
    newest = connection.scalar(sa.select(sa.func.max(schema.events.c.id))) or 0
    return rows.insert(connection, way=way, event_id=newest, next_try=moment, failures=0)


def end(connection: sa.Connection, way: str) -> None:
    connection.execute(schema.alert_deliveries.delete().where(_c.way == way))


def claim(connection: sa.Connection, delivery: Delivery, moment: datetime, until: datetime) -> bool:
    """Keep others from the same delivery until a time."""
    due = schema.alert_deliveries.update().where(_c.id == delivery.id, _c.next_try <= moment)
    return connection.execute(due.values(next_try=until)).rowcount == 1


def waiting(connection: sa.Connection, delivery: Delivery, most: int) -> tuple[list[Alert], int]:
    """Return the newest alerts that wait, the newest first, and how many there are."""
    return after(connection, delivery.event_id, most)


def succeed(connection: sa.Connection, delivery: Delivery, event_id: int, moment: datetime) -> None:
    rows.update_where(
        connection, _c.id == delivery.id, event_id=event_id, next_try=moment, succeeded=moment,
        failures=0, reason=None, hint=None,
    )  # fmt: skip


def fail(connection: sa.Connection, delivery: Delivery, next_try: datetime, reason: str, hint: str) -> None:
    rows.update_where(
        connection, _c.id == delivery.id, next_try=next_try, failures=delivery.failures + 1, reason=reason,
        hint=hint,
    )  # fmt: skip


def try_by(connection: sa.Connection, moment: datetime) -> None:
    """Have no way out wait for longer than this: claims of a process that has ended hold nothing back."""
    rows.update_where(connection, _c.next_try > moment, next_try=moment)


def retry_now(connection: sa.Connection, moment: datetime) -> None:
    """Have each way out that failed try again: its settings changed."""
    rows.update_where(connection, _c.failures > 0, next_try=moment)
