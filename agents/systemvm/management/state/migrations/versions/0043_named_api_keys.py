# SPDX-License-Identifier: Apache-2.0
"""Names, ends and scopes of API keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

KEYS = "api_keys"


def upgrade() -> None:
    op.add_column(KEYS, sa.Column("name", sa.String(length=255), nullable=True))
    op.add_column(KEYS, sa.Column("expires", sa.DateTime(), nullable=True))
    op.add_column(KEYS, sa.Column("rules", sa.JSON(), nullable=True))


def downgrade() -> None:
    for name in ("rules", "expires", "name"):
        op.drop_column(KEYS, name)
