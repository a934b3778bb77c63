# SPDX-License-Identifier: Apache-2.0
"""Sessions by which administrators watch the console of a user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("console_sessions", sa.Column("watches", sa.String(36), nullable=True))
    op.create_index("ix_console_sessions_watches", "console_sessions", ["watches"])


def downgrade() -> None:
    op.drop_index("ix_console_sessions_watches", "console_sessions")
    op.drop_column("console_sessions", "watches")
