# SPDX-License-Identifier: Apache-2.0
"""Events that their account has archived, which lists leave out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0081"
down_revision = "0091"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("archived", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("events", column)


def downgrade() -> None:
    op.drop_column("events", "archived")
