# SPDX-License-Identifier: Apache-2.0
"""The metadata of all tables, and how one is declared."""

from __future__ import annotations

import sqlalchemy as sa

# Constraints have names, so that a migration can alter them on SQLite, too.
metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def table(name: str, *items: sa.schema.SchemaItem) -> sa.Table:
    # AUTOINCREMENT: a number, which is in a VM's name or in a path on a store, is never reused.
    return sa.Table(name, metadata, *items, sqlite_autoincrement=True)
