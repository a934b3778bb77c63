# SPDX-License-Identifier: Apache-2.0
"""Roles with rules, and which account has which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

ROLES, RULES = "roles", "role_permissions"


def upgrade() -> None:
    op.create_table(
        ROLES,
        *_numbered(),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("description", sa.String(length=1024), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roles")),
        sa.UniqueConstraint("uuid", name=op.f("uq_roles_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        RULES,
        *_numbered(),
        sa.Column("role_id", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(length=255), nullable=False),
        sa.Column("is_allowed", sa.Boolean(), nullable=False),
        sa.Column("description", sa.String(length=1024), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["role_id"], ["roles.id"], name=op.f("fk_role_permissions_role_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_permissions")),
        sa.UniqueConstraint("uuid", name=op.f("uq_role_permissions_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_role_permissions_role_id"), RULES, ["role_id"])
    op.add_column("accounts", sa.Column("role_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("accounts", "role_id")
    op.drop_table(RULES)
    op.drop_table(ROLES)


def _numbered() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
    ]
