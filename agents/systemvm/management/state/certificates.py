# SPDX-License-Identifier: Apache-2.0
"""Certificates of the control CA: which were issued, to whom, until when, and which are revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import NotFoundError, Rows
from systemvm.wire.vm_name import VmName

#: How long an expired certificate stays on record.
KEPT_AFTER_EXPIRY = timedelta(days=30)


@frozen
class Certificate:
    id: int
    uuid: str
    serial: str
    name: str
    kind: str
    authority_key_id: str
    not_before: datetime
    not_after: datetime
    revoked: datetime | None
    reason: str | None
    created: datetime


rows = Rows(schema.certificates, Certificate, "certificate")
_c = schema.certificates.c


def record(connection: sa.Connection, /, **values: Any) -> Certificate:
    """Record a new certificate, and delete those that expired long ago."""
    connection.execute(schema.certificates.delete().where(_c.not_after < now() - KEPT_AFTER_EXPIRY))
    return rows.insert(connection, **values)


def newest(connection: sa.Connection, *, name: str | None = None, limit: int = 500) -> list[Certificate]:
    where = [sa.func.lower(_c.name) == VmName(name).key] if name else []
    return rows.all(connection, *where, order_by=[_c.id.desc()], limit=limit)


def revoked_serials(connection: sa.Connection) -> set[str]:
    return set(connection.execute(sa.select(_c.serial).where(_c.revoked.is_not(None))).scalars())


def live_serials(connection: sa.Connection) -> set[str]:
    """Return the serials of certificates that are neither expired nor revoked."""
    live = _c.revoked.is_(None) & (_c.not_after > now())
    return set(connection.execute(sa.select(_c.serial).where(live)).scalars())


def is_on_record(connection: sa.Connection, serial: str) -> bool:
    return rows.one(connection, _c.serial == serial) is not None


def revoke(connection: sa.Connection, serial: str, reason: str) -> Certificate:
    """Revoke a certificate by its serial in hexadecimal.

    Raises: NotFoundError when no such certificate was issued here.
    """
    found = rows.one(connection, _c.serial == serial.lower().replace(":", "").lstrip("0"))
    if found is None:
        raise NotFoundError(f"there is no certificate with the serial {serial}", parameter="serial")
    if found.revoked is not None:
        return found
    return rows.update(connection, found.id, revoked=now(), reason=reason)
