# SPDX-License-Identifier: Apache-2.0
"""An index for alerts, which are a few types of many events."""

from __future__ import annotations

from alembic import op

revision = "0044"
down_revision = "0038"
branch_labels = None
depends_on = None

INDEX = "ix_events_type_created"


def upgrade() -> None:
    op.create_index(INDEX, "events", ["type", "created"])


def downgrade() -> None:
    op.drop_index(INDEX, "events")
