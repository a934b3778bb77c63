# SPDX-License-Identifier: Apache-2.0
"""Temporary links by which images are downloaded from a zone's SSVMs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows


@frozen
class ExtractLinkRow:
    """A link; `secret` is the part of its URL that cannot be guessed."""

    id: int
    uuid: str
    account_id: int
    domain_id: int
    template_id: int
    zone_id: int
    secret: str = field(repr=False)
    origin: str  # of the SSVM that it was created for
    file_name: str
    expires: datetime
    created: datetime


rows = Rows(schema.extract_links, ExtractLinkRow, "link")
_c = schema.extract_links.c


def create(connection: sa.Connection, /, **values: Any) -> ExtractLinkRow:
    return rows.insert(connection, **values)


def live_of_zone(connection: sa.Connection, zone_id: int) -> list[ExtractLinkRow]:
    """Return the links of a zone that have not expired, those to removed templates excepted."""
    t = schema.templates.c
    removed = sa.exists().where(t.id == _c.template_id, t.removed.is_not(None))
    return rows.all(connection, _c.zone_id == zone_id, _c.expires > now(), ~removed)


def live_of_template(connection: sa.Connection, template_id: int, zone_id: int) -> list[ExtractLinkRow]:
    """Return the links to a template that have not expired, the one that expires last first."""
    return rows.all(
        connection,
        _c.template_id == template_id,
        _c.zone_id == zone_id,
        _c.expires > now(),
        order_by=[_c.expires.desc()],
    )


def delete_expired(connection: sa.Connection) -> int:
    """Delete the rows of expired links; return how many there were."""
    return connection.execute(schema.extract_links.delete().where(_c.expires <= now())).rowcount
