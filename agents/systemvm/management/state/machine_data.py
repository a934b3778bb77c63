# SPDX-License-Identifier: Apache-2.0
"""User data of VMs: apart from their rows, so that no list of VMs reads it."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state import schema

_d = schema.machine_data.c


def user_data_of(connection: sa.Connection, vm_id: int) -> bytes | None:
    return connection.execute(sa.select(_d.user_data).where(_d.vm_id == vm_id)).scalar_one_or_none()


def put_user_data(connection: sa.Connection, vm_id: int, user_data: bytes) -> None:
    """Give a VM user data in place of what it has; none when it is empty."""
    connection.execute(schema.machine_data.delete().where(_d.vm_id == vm_id))
    if user_data:
        connection.execute(schema.machine_data.insert().values(vm_id=vm_id, user_data=user_data))
