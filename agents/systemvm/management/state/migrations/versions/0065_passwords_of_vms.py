# SPDX-License-Identifier: Apache-2.0
"""Passwords of VMs: until their guests have them, and until their owners have been given them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0065"
down_revision = "0090"
branch_labels = None
depends_on = None

PASSWORDS = "machine_passwords"


def upgrade() -> None:
    op.create_table(
        PASSWORDS,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("vm_id", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("taken", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["vm_id"], ["vm_instances.id"], name=op.f(f"fk_{PASSWORDS}_vm_id")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{PASSWORDS}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{PASSWORDS}_uuid")),
        sa.UniqueConstraint("vm_id", name=op.f(f"uq_{PASSWORDS}_vm_id")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("async_jobs") as jobs:
        jobs.add_column(sa.Column("sealed_password", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("async_jobs") as jobs:
        jobs.drop_column("sealed_password")
    op.drop_table(PASSWORDS)
