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
    with op.batch_alter_table("template_store_refs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("request_id", sa.String(length=128), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("template_store_refs", schema=None) as batch_op:
        batch_op.drop_column("request_id")
