# SPDX-License-Identifier: Apache-2.0
"""Details of VMs, links to files of stores, an index for alerts, and what SSVMs have served of accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

INDEX, LINKS, SERVED = "ix_events_type_created", "store_object_links", "served_bytes"


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
    op.create_table(
        SERVED,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("agent_name", sa.String(length=64), nullable=False),
        sa.Column("instance", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f(f"fk_{SERVED}_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{SERVED}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{SERVED}_uuid")),
        sa.UniqueConstraint(
            "account_id", "agent_name", "instance", name=op.f(f"uq_{SERVED}_account_id_agent_name_instance")
        ),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table(SERVED)
    op.drop_table(LINKS)
    # not in a batch: that would make the table anew
    op.drop_column("vm_instances", "details")
    op.drop_index(INDEX, "events")
