# SPDX-License-Identifier: Apache-2.0
"""Recordings of consoles, and whose consoles are recorded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from systemvm.management.state.columns import UtcDateTime

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def _numbered() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("created", UtcDateTime(), nullable=False),
        sa.Column("removed", UtcDateTime(), nullable=True),
    ]


def upgrade() -> None:
    op.add_column(
        "console_sessions",
        sa.Column("recording", sa.String(length=40), nullable=False, server_default="off"),
    )
    op.create_table(
        "console_recordings",
        *_numbered(),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.Integer(), nullable=True),
        sa.Column("arch", sa.String(16), nullable=True),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("vm_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("proxy_id", sa.Integer(), nullable=False),
        sa.Column("store_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("end_code", sa.String(32), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=True),
        sa.Column("ended", UtcDateTime(), nullable=True),
        sa.Column("updated", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_console_recordings_account_id")
        ),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_console_recordings_domain_id")),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name=op.f("fk_console_recordings_zone_id")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["console_sessions.id"], name=op.f("fk_console_recordings_session_id")
        ),
        sa.ForeignKeyConstraint(["vm_id"], ["vm_instances.id"], name=op.f("fk_console_recordings_vm_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_console_recordings_user_id")),
        sa.ForeignKeyConstraint(
            ["proxy_id"], ["vm_instances.id"], name=op.f("fk_console_recordings_proxy_id")
        ),
        sa.ForeignKeyConstraint(
            ["store_id"], ["image_stores.id"], name=op.f("fk_console_recordings_store_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_console_recordings")),
        sa.UniqueConstraint("uuid", name=op.f("uq_console_recordings_uuid")),
        sqlite_autoincrement=True,
    )
    for column in ("vm_id", "session_id", "state"):
        op.create_index(op.f(f"ix_console_recordings_{column}"), "console_recordings", [column])
    op.create_table(
        "console_recording_rules",
        *_numbered(),
        sa.Column("vm_id", sa.Integer(), nullable=True),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("mode", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["vm_id"], ["vm_instances.id"], name=op.f("fk_console_recording_rules_vm_id")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_console_recording_rules_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_console_recording_rules")),
        sa.UniqueConstraint("uuid", name=op.f("uq_console_recording_rules_uuid")),
        sa.UniqueConstraint("vm_id", name=op.f("uq_console_recording_rules_vm_id")),
        sa.UniqueConstraint("account_id", name=op.f("uq_console_recording_rules_account_id")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("console_recording_rules")
    op.drop_table("console_recordings")
    op.drop_column("console_sessions", "recording")
