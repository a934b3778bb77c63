# SPDX-License-Identifier: Apache-2.0
"""Templates that are made from snapshots of volumes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

TABLE = "snapshot_images"


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("template_id", sa.Integer(), nullable=False),
        sa.Column("snapshot_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_id"], ["templates.id"], name=op.f("fk_snapshot_images_template_id")
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshots.id"], name=op.f("fk_snapshot_images_snapshot_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_images")),
        sa.UniqueConstraint("uuid", name=op.f("uq_snapshot_images_uuid")),
        sa.UniqueConstraint("template_id", name=op.f("uq_snapshot_images_template_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_snapshot_images_snapshot_id"), TABLE, ["snapshot_id"])


def downgrade() -> None:
    op.drop_table(TABLE)
