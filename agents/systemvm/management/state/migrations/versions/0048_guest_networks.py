# SPDX-License-Identifier: Apache-2.0
"""Shared guest networks that createNetwork makes, with their ranges and NICs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

NETWORKS, COLUMN = "guest_networks", "guest_network_id"


def upgrade() -> None:
    op.create_table(
        NETWORKS,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("zone_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("display_text", sa.String(length=4096), nullable=False),
        sa.Column("network_domain", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name=op.f(f"fk_{NETWORKS}_zone_id")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{NETWORKS}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{NETWORKS}_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f(f"ix_{NETWORKS}_zone_id"), NETWORKS, ["zone_id"])
    for table in ("address_ranges", "nics"):
        op.add_column(table, sa.Column(COLUMN, sa.Integer(), nullable=True))


def downgrade() -> None:
    for table in ("address_ranges", "nics"):
        # not in a batch: that would make the table anew
        op.drop_column(table, COLUMN)
    op.drop_table(NETWORKS)
