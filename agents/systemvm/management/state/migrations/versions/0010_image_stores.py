# SPDX-License-Identifier: Apache-2.0
"""Several image stores for a zone, copies of templates between them, and launch permissions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0006"
branch_labels = None
depends_on = None

STORES, REFS, PERMISSIONS = "image_stores", "template_store_refs", "template_permissions"


def _columns() -> dict[str, tuple[sa.Column[Any], ...]]:
    """Return the new columns; a column object can be in one table only, so each call makes them anew."""
    return {
        STORES: (
            sa.Column("provider", sa.String(length=40), nullable=False, server_default="NFS"),
            sa.Column("origin", sa.String(length=10), nullable=False, server_default="file"),
            sa.Column("mount_options", sa.String(length=1024), nullable=False, server_default=""),
            sa.Column("retiring", sa.DateTime(), nullable=True),
        ),
        REFS: (
            sa.Column("image_checksum", sa.String(length=255), nullable=True),
            sa.Column("source_ref_id", sa.Integer(), nullable=True),
            sa.Column("copy_failures", sa.Integer(), nullable=False, server_default="0"),
        ),
    }


def upgrade() -> None:
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    op.create_table(
        PERMISSIONS,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("template_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_id"], ["templates.id"], name=op.f("fk_template_permissions_template_id")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_template_permissions_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_template_permissions")),
        sa.UniqueConstraint("uuid", name=op.f("uq_template_permissions_uuid")),
        sa.UniqueConstraint(
            "template_id", "account_id", name=op.f("uq_template_permissions_template_id_account_id")
        ),
        sqlite_autoincrement=True,
    )
    for name in ("template_id", "account_id"):
        op.create_index(op.f(f"ix_{PERMISSIONS}_{name}"), PERMISSIONS, [name])


def downgrade() -> None:
    op.drop_table(PERMISSIONS)
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name)
