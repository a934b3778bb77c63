# SPDX-License-Identifier: Apache-2.0
"""Indexes for lists of an account's volumes, snapshots, jobs, users and consoles, and of open consoles."""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_domains_parent_id", "domains", ["parent_id"]),
    ("ix_volumes_account_id", "volumes", ["account_id"]),
    ("ix_snapshots_account_id", "snapshots", ["account_id"]),
    ("ix_async_jobs_account_id", "async_jobs", ["account_id"]),
    ("ix_async_jobs_created", "async_jobs", ["created"]),
    ("ix_users_account_id", "users", ["account_id"]),
    ("ix_console_sessions_user_id", "console_sessions", ["user_id"]),
    ("ix_console_sessions_removed", "console_sessions", ["removed"]),
    ("ix_console_recordings_account_id", "console_recordings", ["account_id"]),
)


def upgrade() -> None:
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    for name, table, _ in reversed(INDEXES):
        op.drop_index(name, table)
