# SPDX-License-Identifier: Apache-2.0
"""Details of VMs, links to files of stores, and an index for alerts, which are a few types of many events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0038"
branch_labels = None
depends_on = None

INDEX, LINKS = "ix_events_type_created", "store_object_links"


def upgrade() -> None:
    op.create_index(INDEX, "events", ["type", "created"])
    op.add_column("vm_instances", sa.Column("details", sa.JSON(), server_default="{}", nullable=False))
    op.create_table(
        LINKS,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("store_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("secret", sa.String(length=36), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("expires", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["store_id"], ["image_stores.id"], name=op.f(f"fk_{LINKS}_store_id")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{LINKS}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{LINKS}_uuid")),
        sa.UniqueConstraint("secret", name=op.f(f"uq_{LINKS}_secret")),
        sqlite_autoincrement=True,
    )
    for name in ("expires", "store_id"):
        op.create_index(op.f(f"ix_{LINKS}_{name}"), LINKS, [name])


def downgrade() -> None:
    op.drop_table(LINKS)
    # not in a batch: that would make the table anew
    op.drop_column("vm_instances", "details")
    op.drop_index(INDEX, "events")
