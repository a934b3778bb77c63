# SPDX-License-Identifier: Apache-2.0
"""Since when a volume has been its VM's; what is attached already has been so since it was made, at most."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from systemvm.management.state.columns import UtcDateTime

revision = "0107"
down_revision = "0106"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("volumes", sa.Column("attached", UtcDateTime(), nullable=True))
    op.execute("UPDATE volumes SET attached = created WHERE vm_id IS NOT NULL")


def downgrade() -> None:
    op.drop_column("volumes", "attached")
