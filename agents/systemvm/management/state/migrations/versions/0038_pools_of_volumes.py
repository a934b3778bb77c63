# SPDX-License-Identifier: Apache-2.0
"""The storage pool of each volume and of each copy of a template; none: the host's own directory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

_TABLES = ("volumes", "template_spool_refs")


def upgrade() -> None:
    for name in _TABLES:
        op.add_column(name, sa.Column("pool_id", sa.Integer(), nullable=True))
        op.create_index(op.f(f"ix_{name}_pool_id"), name, ["pool_id"])


def downgrade() -> None:
    for name in reversed(_TABLES):
        op.drop_index(op.f(f"ix_{name}_pool_id"), name)
        op.drop_column(name, "pool_id")
