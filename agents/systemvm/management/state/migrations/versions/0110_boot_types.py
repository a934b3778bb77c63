# SPDX-License-Identifier: Apache-2.0
"""The firmware of a VM, and whether a host has UEFI. VMs of arm64 have booted by UEFI from the start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0110"
down_revision = "0109"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "vm_instances", sa.Column("boot_type", sa.String(length=40), server_default="BIOS", nullable=False)
    )
    op.execute("UPDATE vm_instances SET boot_type = 'UEFI' WHERE arch = 'arm64'")
    op.add_column("hosts", sa.Column("has_uefi", sa.Boolean(), nullable=True))


def downgrade() -> None:
    op.drop_column("hosts", "has_uefi")
    op.drop_column("vm_instances", "boot_type")
