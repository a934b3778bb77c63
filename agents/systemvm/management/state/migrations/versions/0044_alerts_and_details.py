# SPDX-License-Identifier: Apache-2.0
"""Details of VMs; an index for alerts, which are a few types of many events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0038"
branch_labels = None
depends_on = None

INDEX = "ix_events_type_created"


def upgrade() -> None:
    op.create_index(INDEX, "events", ["type", "created"])
    op.add_column("vm_instances", sa.Column("details", sa.JSON(), server_default="{}", nullable=False))


def downgrade() -> None:
    # not in a batch: that would make the table anew
    op.drop_column("vm_instances", "details")
    op.drop_index(INDEX, "events")
