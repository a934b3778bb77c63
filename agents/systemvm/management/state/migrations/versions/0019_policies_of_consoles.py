# SPDX-License-Identifier: Apache-2.0
"""What a console session may do; sessions from before may do everything."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

COLUMNS = {"view_only": sa.false(), "clipboard_to_guest": sa.true(), "clipboard_from_guest": sa.true()}


def upgrade() -> None:
    for name, default in COLUMNS.items():
        column: sa.Column[bool] = sa.Column(name, sa.Boolean(), nullable=False, server_default=default)
        op.add_column("console_sessions", column)


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("console_sessions", name)
