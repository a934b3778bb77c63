# SPDX-License-Identifier: Apache-2.0
"""Second factors of logins, and which sessions have verified theirs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

FACTORS, SESSIONS = "second_factors", "sessions"


def upgrade() -> None:
    op.create_table(
        FACTORS,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("is_confirmed", sa.Boolean(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f(f"fk_{FACTORS}_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{FACTORS}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{FACTORS}_uuid")),
        sa.UniqueConstraint("user_id", name=op.f(f"uq_{FACTORS}_user_id")),
        sqlite_autoincrement=True,
    )
    op.add_column(SESSIONS, sa.Column("is_verified", sa.Boolean(), server_default=sa.true(), nullable=False))


def downgrade() -> None:
    op.drop_column(SESSIONS, "is_verified")
    op.drop_table(FACTORS)
