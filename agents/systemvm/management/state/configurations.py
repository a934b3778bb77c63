# SPDX-License-Identifier: Apache-2.0
"""Settings that were changed by the API: of one zone, or of all zones that have no value of their own."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state import schema

_table = schema.configurations
_c = _table.c


def values(connection: sa.Connection, zone_id: int | None) -> dict[str, str]:
    """Return the changed values that hold for a zone by name; with None those that hold for all zones."""
    query = (
        sa.select(_c.name, _c.value)
        .where(sa.or_(_c.zone_id.is_(None), _c.zone_id == zone_id))
        .order_by(_c.zone_id.is_not(None), _c.id)
    )
    return {name: value for name, value in connection.execute(query)}  # noqa: C416  (rows are not pairs)


def own_values(connection: sa.Connection, zone_id: int) -> dict[str, str]:
    """Return the values of a zone's own, by name."""
    query = sa.select(_c.name, _c.value).where(_c.zone_id == zone_id)
    return {name: value for name, value in connection.execute(query)}  # noqa: C416  (rows are not pairs)


def put(connection: sa.Connection, name: str, zone_id: int | None, value: str) -> None:
    reset(connection, name, zone_id)
    connection.execute(_table.insert().values(name=name, zone_id=zone_id, value=value))


def reset(connection: sa.Connection, name: str, zone_id: int | None) -> None:
    """Remove a value; None removes that of all zones, and leaves the zones' own."""
    connection.execute(_table.delete().where(_c.name == name, _c.zone_id.is_not_distinct_from(zone_id)))
