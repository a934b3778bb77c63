# SPDX-License-Identifier: Apache-2.0
"""Copies with the same checksum are found by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

WANTED = "removed IS NULL AND delete_requested IS NULL"
TABLE = "template_store_refs"


def upgrade() -> None:
    where = sa.text(WANTED)
    op.create_index(f"ix_{TABLE}_checksum", TABLE, ["checksum"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index(f"ix_{TABLE}_checksum", TABLE)
