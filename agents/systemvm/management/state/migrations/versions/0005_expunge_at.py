# SPDX-License-Identifier: Apache-2.0
"""When the disk of a destroyed machine may be deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vm_instances", sa.Column("expunge_at", sa.DateTime(), nullable=True))
    op.create_index(op.f("ix_vm_instances_expunge_at"), "vm_instances", ["expunge_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_vm_instances_expunge_at"), table_name="vm_instances")
    # not in a batch: that would make the table anew, and take along what refers to it
    op.drop_column("vm_instances", "expunge_at")
