# SPDX-License-Identifier: Apache-2.0
"""User data of VMs that are expunged, which earlier releases have kept."""

from __future__ import annotations

from alembic import op

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "DELETE FROM machine_data WHERE vm_id IN (SELECT id FROM vm_instances WHERE removed IS NOT NULL)"
    )


def downgrade() -> None:
    """What is deleted stays so."""
