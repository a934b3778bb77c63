# SPDX-License-Identifier: Apache-2.0
"""Indexes for lists of ISOs, and of an account's snapshot policies."""

from __future__ import annotations

from alembic import op

revision = "0090"
down_revision = "0080"
branch_labels = None
depends_on = None

INDEXES = (("templates", "format"), ("snapshot_policies", "account_id"))


def upgrade() -> None:
    for table, column in INDEXES:
        op.create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    for table, column in INDEXES:
        op.drop_index(f"ix_{table}_{column}", table)
