# SPDX-License-Identifier: Apache-2.0
"""The disk offerings that data volumes were created by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("volumes", sa.Column("disk_offering_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("volumes", "disk_offering_id")
