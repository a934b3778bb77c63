# SPDX-License-Identifier: Apache-2.0
"""Indexes for lists of many rows: of an account, and the newest events."""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_templates_account_id", "templates", ["account_id"]),
    ("ix_vm_instances_account_id", "vm_instances", ["account_id"]),
    ("ix_events_created", "events", ["created"]),
    ("ix_events_account_id_created", "events", ["account_id", "created"]),
)


def upgrade() -> None:
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    for name, table, _ in reversed(INDEXES):
        op.drop_index(name, table)
