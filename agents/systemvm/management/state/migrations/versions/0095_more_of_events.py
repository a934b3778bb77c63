# SPDX-License-Identifier: Apache-2.0
"""An index for pages of events by level and time, and a mark of deleted events that are still alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0095"
down_revision = "0060"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_events_level_created", "events", ["level", "created"])
    op.drop_index("ix_events_level", "events")
    op.add_column("events", sa.Column("only_alert", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("events", "only_alert")
    op.create_index("ix_events_level", "events", ["level"])
    op.drop_index("ix_events_level_created", "events")
