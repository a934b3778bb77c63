# SPDX-License-Identifier: Apache-2.0
"""Where a running VM's serial port is, and consoles that show one; VMs that run already only have its log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vm_instances", sa.Column("serial_port", sa.Integer(), nullable=True))
    op.add_column("vm_instances", sa.Column("serial_fingerprint", sa.String(length=64), nullable=True))
    op.add_column(
        "console_sessions", sa.Column("kind", sa.String(length=40), nullable=False, server_default="screen")
    )


def downgrade() -> None:
    op.drop_column("console_sessions", "kind")
    op.drop_column("vm_instances", "serial_fingerprint")
    op.drop_column("vm_instances", "serial_port")
