# SPDX-License-Identifier: Apache-2.0
"""From where users logged in, so that guessing elsewhere keeps nobody out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "login_sources",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("last_login", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_login_sources_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_sources")),
        sa.UniqueConstraint("user_id", "source", name=op.f("uq_login_sources_user_id_source")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("login_sources")
