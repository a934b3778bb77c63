# SPDX-License-Identifier: Apache-2.0
"""A VM of an ISO has it as its template, too, so that it still has that when the ISO is detached."""

from __future__ import annotations

from alembic import op

revision = "0109"
down_revision = "0107"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE vm_instances SET template_id = iso_id WHERE template_id IS NULL AND iso_id IS NOT NULL"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE vm_instances SET template_id = NULL"
        " WHERE template_id IN (SELECT id FROM templates WHERE format = 'ISO')"
    )
