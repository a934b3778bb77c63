# SPDX-License-Identifier: Apache-2.0
"""Passwords of VMs, sealed until their guests have taken them; of a taken one only the time is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows


@frozen
class MachinePassword:
    id: int
    uuid: str  # another one for each password, so that an old one is not taken for a new one
    vm_id: int
    sealed: bytes | None = field(repr=False)
    taken: datetime | None


rows = Rows(schema.machine_passwords, MachinePassword, "password")
_c = schema.machine_passwords.c


def of_vm(connection: sa.Connection, vm_id: int) -> MachinePassword | None:
    return rows.one(connection, _c.vm_id == vm_id)


def put(connection: sa.Connection, vm_id: int, sealed: bytes) -> None:
    """Give a VM a password in place of what it has."""
    delete(connection, vm_id)
    rows.insert(connection, vm_id=vm_id, sealed=sealed)


def delete(connection: sa.Connection, vm_id: int) -> None:
    connection.execute(schema.machine_passwords.delete().where(_c.vm_id == vm_id))


def mark_read(connection: sa.Connection, vm_id: int) -> None:
    """Forget the password of a VM that was started with it on its config drive."""
    rows.update_where(connection, _c.vm_id == vm_id, _c.sealed.is_not(None), sealed=None, taken=now())


def is_one_waiting(connection: sa.Connection) -> bool:
    """Return whether a guest has not taken its password yet."""
    return connection.execute(sa.select(_c.id).where(_c.sealed.is_not(None)).limit(1)).first() is not None


def mark_taken(connection: sa.Connection, uuids: Sequence[str]) -> list[int]:
    """Forget passwords that guests have taken; return the numbers of their VMs."""
    found = rows.all(connection, _c.uuid.in_(uuids), _c.sealed.is_not(None))
    rows.update_where(connection, _c.id.in_([each.id for each in found]), sealed=None, taken=now())
    return [each.vm_id for each in found]
