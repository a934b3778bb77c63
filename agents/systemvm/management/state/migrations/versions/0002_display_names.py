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
    with op.batch_alter_table("vm_instances", schema=None) as batch_op:
        batch_op.add_column(sa.Column("display_name", sa.String(length=255), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("vm_instances", schema=None) as batch_op:
        batch_op.drop_column("display_name")
