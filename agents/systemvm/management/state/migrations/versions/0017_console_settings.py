# SPDX-License-Identifier: Apache-2.0
"""Settings that the API changes, and what is recorded of each console session."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TABLE = "configurations"
SESSIONS = "console_sessions"


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("value", sa.String(length=1024), nullable=False),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name=op.f(f"fk_{TABLE}_zone_id")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{TABLE}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{TABLE}_uuid")),
        sqlite_autoincrement=True,
    )
    op.add_column(SESSIONS, sa.Column("extra_hash", sa.String(length=64), nullable=True))
    op.add_column(SESSIONS, sa.Column("takes_over", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column(SESSIONS, sa.Column("close_code", sa.String(length=32), nullable=True))
    for name in ("sent_bytes", "received_bytes"):
        op.add_column(SESSIONS, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    # not in a batch: that would make the table anew
    for name in ("received_bytes", "sent_bytes", "close_code", "takes_over", "extra_hash"):
        op.drop_column(SESSIONS, name)
    op.drop_table(TABLE)
