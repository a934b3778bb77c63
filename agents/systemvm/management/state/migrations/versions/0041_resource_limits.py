# SPDX-License-Identifier: Apache-2.0
"""Limits of accounts and domains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

LIMITS = "resource_limits"


def upgrade() -> None:
    op.create_table(
        LIMITS,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("domain_id", sa.Integer(), nullable=True),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_resource_limits_account_id")),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_resource_limits_domain_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resource_limits")),
        sa.UniqueConstraint("account_id", "type", name=op.f("uq_resource_limits_account_id_type")),
        sa.UniqueConstraint("domain_id", "type", name=op.f("uq_resource_limits_domain_id_type")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table(LIMITS)
