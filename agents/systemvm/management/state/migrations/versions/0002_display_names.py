# SPDX-License-Identifier: Apache-2.0
"""Names that users give their machines beside the host names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vm_instances", sa.Column("display_name", sa.String(length=255), nullable=True))


def downgrade() -> None:
    # not in a batch: that would make the table anew, and take along what refers to it
    op.drop_column("vm_instances", "display_name")
