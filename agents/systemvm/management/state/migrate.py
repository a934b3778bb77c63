# SPDX-License-Identifier: Apache-2.0
"""Upgrade a database's schema with Alembic, from empty or from any earlier release."""

from __future__ import annotations

import functools
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).with_name("migrations")


def alembic_config(connection: sa.Connection | None = None) -> Config:
    """Return Alembic's settings, which are made here instead of in an alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


@functools.cache
def _newest() -> str | None:
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    with engine.connect() as connection, connection.execution_options(writes=True).begin():
        if revision == "head" and MigrationContext.configure(connection).get_current_revision() == _newest():
            return
        command.upgrade(alembic_config(connection), revision)


def downgrade(engine: sa.Engine, revision: str) -> None:
    with engine.connect() as connection, connection.execution_options(writes=True).begin():
        command.downgrade(alembic_config(connection), revision)
