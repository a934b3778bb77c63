# SPDX-License-Identifier: Apache-2.0
"""How the disks of volumes take space, and which storage pools the volumes of an offering are in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None

OFFERINGS = ("service_offerings", "disk_offerings")


def upgrade() -> None:
    op.add_column(
        "volumes", sa.Column("provisioning", sa.String(length=40), server_default="thin", nullable=False)
    )
    for table in OFFERINGS:
        op.add_column(table, sa.Column("tags", sa.String(length=1024), server_default="", nullable=False))


def downgrade() -> None:
    # not in a batch: that would make the tables anew
    for table in OFFERINGS:
        op.drop_column(table, "tags")
    op.drop_column("volumes", "provisioning")
