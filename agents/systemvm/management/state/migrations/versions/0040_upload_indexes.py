# SPDX-License-Identifier: Apache-2.0
"""Indexes for the few volumes that are uploaded now, and for images of types that few have."""

from __future__ import annotations

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

INDEXES = (("ix_volumes_state", "volumes", ["state"]), ("ix_templates_type", "templates", ["type"]))


def upgrade() -> None:
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    for name, table, _ in reversed(INDEXES):
        op.drop_index(name, table)
