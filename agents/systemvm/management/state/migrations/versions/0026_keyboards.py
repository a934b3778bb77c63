# SPDX-License-Identifier: Apache-2.0
"""The keyboard layout of a virtual machine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vm_instances", sa.Column("keyboard", sa.String(length=10), nullable=True))


def downgrade() -> None:
    # not in a batch: that would make the table anew
    op.drop_column("vm_instances", "keyboard")
