# SPDX-License-Identifier: Apache-2.0
"""Uploads of templates, and the key that their URLs are signed with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

REFS, UPLOADS, SECRETS = "template_store_refs", "template_uploads", "secrets"


def upgrade() -> None:
    op.add_column(REFS, sa.Column("upload_id", sa.String(length=36), nullable=True))
    op.create_table(
        UPLOADS,
        *_numbered(),
        sa.Column("upload_id", sa.String(length=36), nullable=False),
        sa.Column("post_url", sa.String(length=1024), nullable=False),
        sa.Column("metadata", sa.String(length=255), nullable=False),
        sa.Column("expires", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{UPLOADS}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{UPLOADS}_uuid")),
        sa.UniqueConstraint("upload_id", name=op.f(f"uq_{UPLOADS}_upload_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f(f"ix_{UPLOADS}_expires"), UPLOADS, ["expires"])
    op.create_table(
        SECRETS,
        *_numbered(),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{SECRETS}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{SECRETS}_uuid")),
        sa.UniqueConstraint("name", name=op.f(f"uq_{SECRETS}_name")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table(SECRETS)
    op.drop_table(UPLOADS)
    op.drop_column(REFS, "upload_id")


def _numbered() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
    ]
