# SPDX-License-Identifier: Apache-2.0
"""Hosts that no daemon drives, and the names that these have for their VMs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from systemvm.management.state.columns import UtcDateTime

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "foreign_hosts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("removed", UtcDateTime(), nullable=True),
        sa.Column("host_id", sa.Integer(), nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("username", sa.String(255), nullable=False),
        sa.Column("sealed_password", sa.LargeBinary(), nullable=False),
        sa.Column("ca_pem", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("addresses", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("hint", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("due", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_foreign_hosts_host_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_foreign_hosts")),
        sa.UniqueConstraint("uuid", name=op.f("uq_foreign_hosts_uuid")),
        sa.UniqueConstraint("host_id", name=op.f("uq_foreign_hosts_host_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_foreign_hosts_due"), "foreign_hosts", ["due"])
    op.add_column("vm_instances", sa.Column("host_reference", sa.String(length=255), nullable=True))


def downgrade() -> None:
    op.drop_column("vm_instances", "host_reference")
    op.drop_index(op.f("ix_foreign_hosts_due"), "foreign_hosts")
    op.drop_table("foreign_hosts")
