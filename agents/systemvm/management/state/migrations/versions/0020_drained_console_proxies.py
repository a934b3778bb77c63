# SPDX-License-Identifier: Apache-2.0
"""Console proxies that take no new session, and until when they keep theirs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vm_instances", sa.Column("drain_until", sa.DateTime(), nullable=True))


def downgrade() -> None:
    # not in a batch: that would make the table anew
    op.drop_column("vm_instances", "drain_until")
