# SPDX-License-Identifier: Apache-2.0
"""The device numbers of data volumes on their VMs; root disks have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("volumes", sa.Column("device_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("volumes", "device_id")
