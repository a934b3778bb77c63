# SPDX-License-Identifier: Apache-2.0
"""Keys of the daemon itself, sealed and by name."""

from __future__ import annotations

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.rows import Rows


@frozen
class SecretRow:
    id: int
    name: str
    sealed: bytes = field(repr=False)


rows = Rows(schema.secrets, SecretRow, "secret")


def sealed(connection: sa.Connection, name: str) -> bytes | None:
    """Return the sealed secret of this name; None when there is none yet."""
    found = rows.one(connection, schema.secrets.c.name == name)
    return None if found is None else found.sealed


def put(connection: sa.Connection, name: str, sealed: bytes) -> None:
    rows.insert(connection, name=name, sealed=sealed)


def replace(connection: sa.Connection, name: str, sealed: bytes) -> None:
    rows.update_where(connection, schema.secrets.c.name == name, sealed=sealed)
