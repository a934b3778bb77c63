# SPDX-License-Identifier: Apache-2.0
"""Which login asked for a console, and users' addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("console_sessions", sa.Column("login_uuid", sa.String(length=36), nullable=True))
    op.create_index(op.f("ix_console_sessions_login_uuid"), "console_sessions", ["login_uuid"])
    op.add_column("users", sa.Column("email", sa.String(length=255), nullable=False, server_default=""))


def downgrade() -> None:
    # not in a batch: that would make the tables anew, and take along what refers to them
    op.drop_column("users", "email")
    op.drop_index(op.f("ix_console_sessions_login_uuid"), table_name="console_sessions")
    op.drop_column("console_sessions", "login_uuid")
