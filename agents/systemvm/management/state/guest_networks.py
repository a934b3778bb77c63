# SPDX-License-Identifier: Apache-2.0
"""Shared guest networks that the API has made. What is on none of them is on the zone's own guest network."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.rows import Rows


@frozen
class GuestNetwork:
    id: int
    uuid: str
    zone_id: int
    name: str
    display_text: str
    network_domain: str | None  # the zone's without one
    created: datetime
    removed: datetime | None


rows = Rows(schema.guest_networks, GuestNetwork, "network")
by_uuid = rows.by_uuid
by_ids = rows.by_ids


def list_networks(connection: sa.Connection, zone_id: int | None = None) -> list[GuestNetwork]:
    """Return networks, the oldest first."""
    c = schema.guest_networks.c
    of_zone = [] if zone_id is None else [c.zone_id == zone_id]
    return rows.all(connection, c.removed.is_(None), *of_zone)
