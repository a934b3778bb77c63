# SPDX-License-Identifier: Apache-2.0
"""Copies of snapshots in other zones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

TABLE = "snapshots"


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("copy_of", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_snapshots_copy_of"), TABLE, ["copy_of"])


def downgrade() -> None:
    op.drop_index(op.f("ix_snapshots_copy_of"), TABLE)
    op.drop_column(TABLE, "copy_of")
