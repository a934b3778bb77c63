# SPDX-License-Identifier: Apache-2.0
"""Tags of VMs, templates, ISOs, volumes and snapshots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

TAGS = "resource_tags"


def upgrade() -> None:
    op.create_table(
        TAGS,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("resource_type", sa.String(length=40), nullable=False),
        sa.Column("resource_uuid", sa.String(length=36), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_resource_tags_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resource_tags")),
        sa.UniqueConstraint("uuid", name=op.f("uq_resource_tags_uuid")),
        sa.UniqueConstraint("resource_uuid", "key", name=op.f("uq_resource_tags_resource_uuid_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_resource_tags_account_id"), TAGS, ["account_id"])


def downgrade() -> None:
    op.drop_table(TAGS)
