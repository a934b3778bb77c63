# SPDX-License-Identifier: Apache-2.0
"""User data of VMs, which the metadata service of guest networks answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

DATA = "machine_data"


def upgrade() -> None:
    op.create_table(
        DATA,
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
        sa.Column("vm_id", sa.Integer(), nullable=False),
        sa.Column("user_data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["vm_id"], ["vm_instances.id"], name=op.f(f"fk_{DATA}_vm_id")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{DATA}")),
        sa.UniqueConstraint("uuid", name=op.f(f"uq_{DATA}_uuid")),
        sa.UniqueConstraint("vm_id", name=op.f(f"uq_{DATA}_vm_id")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table(DATA)
