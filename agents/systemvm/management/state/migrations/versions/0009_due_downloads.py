# SPDX-License-Identifier: Apache-2.0
"""What is due of templates on stores is found by an index: downloads that go on, and files that are to go."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

WANTED = "removed IS NULL AND delete_requested IS NULL"
TO_DELETE = "delete_requested IS NOT NULL AND removed IS NULL"
TABLE = "template_store_refs"


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("delete_requested", sa.DateTime(), nullable=True))
    op.execute(
        "UPDATE template_store_refs SET delete_requested ="
        " (SELECT t.removed FROM templates t WHERE t.id = template_id) WHERE removed IS NULL"
    )
    for name, columns, where in (
        ("wanted", ["state", "agent_name"], sa.text(WANTED)),
        ("to_delete", ["delete_requested"], sa.text(TO_DELETE)),
    ):
        op.create_index(f"ix_{TABLE}_{name}", TABLE, columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index(f"ix_{TABLE}_to_delete", TABLE)
    op.drop_index(f"ix_{TABLE}_wanted", TABLE)
    op.drop_column(TABLE, "delete_requested")
