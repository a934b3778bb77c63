# SPDX-License-Identifier: Apache-2.0
"""Indexes of lists that their caller orders: by name, and events by level."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0080"
down_revision = "0085"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_templates_lower_name", "templates", [sa.text("lower(name)")])
    op.create_index("ix_vm_instances_type_lower_name", "vm_instances", ["type", sa.text("lower(name)")])
    op.create_index("ix_events_level", "events", ["level"])


def downgrade() -> None:
    op.drop_index("ix_events_level", "events")
    op.drop_index("ix_vm_instances_type_lower_name", "vm_instances")
    op.drop_index("ix_templates_lower_name", "templates")
