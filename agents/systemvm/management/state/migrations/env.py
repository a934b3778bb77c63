# SPDX-License-Identifier: Apache-2.0
"""What Alembic runs: the migrations on the connection that the daemon, or a test, hands over."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context

from systemvm.management.state.schema import metadata


def render_item(kind: str, item: Any, _autogenerate: Any) -> str | Literal[False]:
    """Our column types by what the database holds: a migration must not change when our classes do."""
    if kind == "type" and isinstance(item, sa.types.TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


connection = context.config.attributes["connection"]
# SQLite cannot alter a column: batch mode copies the table instead.
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, render_item=render_item
)
with context.begin_transaction():
    context.run_migrations()
