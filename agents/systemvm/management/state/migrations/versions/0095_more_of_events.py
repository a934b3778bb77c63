# SPDX-License-Identifier: Apache-2.0
"""An index for pages of events by level and time."""

from __future__ import annotations

from alembic import op

revision = "0095"
down_revision = "0060"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_events_level_created", "events", ["level", "created"])
    op.drop_index("ix_events_level", "events")


def downgrade() -> None:
    op.create_index("ix_events_level", "events", ["level"])
    op.drop_index("ix_events_level_created", "events")
