# SPDX-License-Identifier: Apache-2.0
"""Policies that take snapshots of volumes by a schedule."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

POLICIES = "snapshot_policies"


def upgrade() -> None:
    op.create_table(
        POLICIES,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(length=16), nullable=True),
        sa.Column("volume_id", sa.Integer(), nullable=False),
        sa.Column("interval_type", sa.String(length=20), nullable=False),
        sa.Column("schedule", sa.String(length=20), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("max_snapshots", sa.Integer(), nullable=False),
        sa.Column("next_run", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_snapshot_policies_account_id")
        ),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_snapshot_policies_domain_id")),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name=op.f("fk_snapshot_policies_zone_id")),
        sa.ForeignKeyConstraint(["volume_id"], ["volumes.id"], name=op.f("fk_snapshot_policies_volume_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_policies")),
        sa.UniqueConstraint("uuid", name=op.f("uq_snapshot_policies_uuid")),
        sqlite_autoincrement=True,
    )
    for column in ("volume_id", "next_run"):
        op.create_index(op.f(f"ix_snapshot_policies_{column}"), POLICIES, [column])


def downgrade() -> None:
    op.drop_table(POLICIES)
