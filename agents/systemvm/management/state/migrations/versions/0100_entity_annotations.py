# SPDX-License-Identifier: Apache-2.0
"""Annotations: texts that users and administrators write about objects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0100"
down_revision = "0095"
branch_labels = None
depends_on = None


TABLE = "entity_annotations"


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("entity_type", sa.String(length=40), nullable=False),
        sa.Column("entity_uuid", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("annotation", sa.Text(), nullable=False),
        sa.Column("admins_only", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_entity_annotations_account_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_entity_annotations_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entity_annotations")),
        sa.UniqueConstraint("uuid", name=op.f("uq_entity_annotations_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_entity_annotations_account_id"), TABLE, ["account_id"])
    op.create_index(op.f("ix_entity_annotations_entity_uuid"), TABLE, ["entity_uuid"])


def downgrade() -> None:
    op.drop_table(TABLE)
