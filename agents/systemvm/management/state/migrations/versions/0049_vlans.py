# SPDX-License-Identifier: Apache-2.0
"""The VLAN of a network card."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nics", sa.Column("vlan", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("nics", "vlan")
