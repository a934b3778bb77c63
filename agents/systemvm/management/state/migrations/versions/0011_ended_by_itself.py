# SPDX-License-Identifier: Apache-2.0
"""A column for virtual machines that ended without a request, instead of a prefix of their reason."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "vm_instances",
        sa.Column("ended_by_itself", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.execute("UPDATE vm_instances SET ended_by_itself = true WHERE reason LIKE 'ended: %'")


def downgrade() -> None:
    # not in a batch, which would create the table again and delete the rows that refer to it
    op.drop_column("vm_instances", "ended_by_itself")
