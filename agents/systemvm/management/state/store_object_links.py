# SPDX-License-Identifier: Apache-2.0
"""Temporary links by which administrators download any file of a store from a zone's SSVMs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema, zones
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows
from systemvm.wire.extract import ExtractLink


@frozen
class ObjectLinkRow:
    """A link; `secret` is the part of its URL that cannot be guessed."""

    id: int
    uuid: str
    store_id: int
    path: str  # relative to the store
    secret: str = field(repr=False)
    origin: str  # of the SSVM that it was created for, or of the server of a bucket
    file_name: str
    expires: datetime
    created: datetime


rows = Rows(schema.store_object_links, ObjectLinkRow, "link")
_c, _s = schema.store_object_links.c, schema.image_stores.c


def create(connection: sa.Connection, /, **values: Any) -> ObjectLinkRow:
    """Add a link, and delete those that have expired."""
    connection.execute(schema.store_object_links.delete().where(_c.expires <= now()))
    return rows.insert(connection, **values)


def wire_links(connection: sa.Connection, zone_id: int) -> list[ExtractLink]:
    """Return the links of a zone that have not expired, as its SSVMs serve them."""
    of_zone = sa.select(_s.id).where(_s.zone_id == zone_id, _s.removed.is_(None))
    found = rows.all(connection, _c.store_id.in_(of_zone), _c.expires > now())
    stores = {number: zones.store_by_id(connection, number) for number in {row.store_id for row in found}}
    # the server of a bucket serves its own
    return [wire_link(row, stores[row.store_id]) for row in found if not stores[row.store_id].is_bucket]


def wire_link(row: ObjectLinkRow, store: zones.ImageStore) -> ExtractLink:
    return ExtractLink(
        row.secret, row.file_name, store.wire, 0, 0, row.expires.timestamp(), store_path=row.path
    )
