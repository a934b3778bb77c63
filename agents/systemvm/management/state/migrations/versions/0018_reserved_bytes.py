# SPDX-License-Identifier: Apache-2.0
"""What each copy has reserved of its account's limit, before its first byte is there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TABLE = "template_store_refs"


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("reserved_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column(TABLE, "reserved_bytes")
