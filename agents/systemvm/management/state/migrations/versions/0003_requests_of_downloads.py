# SPDX-License-Identifier: Apache-2.0
"""Which call of the API a download is of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("template_store_refs", sa.Column("request_id", sa.String(length=128), nullable=True))


def downgrade() -> None:
    # not in a batch: that would make the table anew, and take along what refers to it
    op.drop_column("template_store_refs", "request_id")
