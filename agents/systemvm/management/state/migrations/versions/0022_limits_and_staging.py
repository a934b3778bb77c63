# SPDX-License-Identifier: Apache-2.0
"""What an account can store in a zone by a limit of its own, and stores that only stage copies for hosts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("max_secondary_storage_gib", sa.BigInteger(), nullable=True))
    op.add_column(
        "image_stores", sa.Column("role", sa.String(length=20), nullable=False, server_default="Image")
    )


def downgrade() -> None:
    op.drop_column("image_stores", "role")
    op.drop_column("accounts", "max_secondary_storage_gib")
