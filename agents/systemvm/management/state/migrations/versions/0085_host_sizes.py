# SPDX-License-Identifier: Apache-2.0
"""Processors and memory of hosts, and an index that sums what their VMs have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0085"
down_revision = "0051"
branch_labels = None
depends_on = None

INDEX = "ix_vm_instances_load"


def upgrade() -> None:
    op.add_column("hosts", sa.Column("cpus", sa.Integer))
    op.add_column("hosts", sa.Column("memory_mib", sa.Integer))
    op.create_index(INDEX, "vm_instances", ["host_id", "removed", "state", "vcpus", "memory_mib"])


def downgrade() -> None:
    op.drop_index(INDEX, "vm_instances")
    for name in ("memory_mib", "cpus"):
        op.drop_column("hosts", name)
