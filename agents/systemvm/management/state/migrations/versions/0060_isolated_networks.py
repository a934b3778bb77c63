# SPDX-License-Identifier: Apache-2.0
"""Isolated guest networks: owner, state and VLAN, and the VLANs that a physical network has for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0060"
down_revision = "0081"
branch_labels = None
depends_on = None

NETWORKS, PHYSICAL = "guest_networks", "physical_networks"


def upgrade() -> None:
    for name, default in (("guest_type", "Shared"), ("state", "Setup")):
        op.add_column(NETWORKS, sa.Column(name, sa.String(length=40), server_default=default, nullable=False))
    for name in ("account_id", "vlan"):
        op.add_column(NETWORKS, sa.Column(name, sa.Integer(), nullable=True))
    op.add_column(PHYSICAL, sa.Column("vnet", sa.String(length=1024), nullable=True))


def downgrade() -> None:
    # the release before has no owners of networks: to it, each would be a shared one, for everybody
    op.execute(
        "UPDATE address_ranges SET removed = CURRENT_TIMESTAMP WHERE removed IS NULL"
        " AND guest_network_id IN (SELECT id FROM guest_networks WHERE guest_type = 'Isolated')"
    )
    op.execute(
        "UPDATE guest_networks SET removed = CURRENT_TIMESTAMP WHERE removed IS NULL"
        " AND guest_type = 'Isolated'"
    )
    # not in a batch: that would make the tables anew
    for name in ("guest_type", "state", "account_id", "vlan"):
        op.drop_column(NETWORKS, name)
    op.drop_column(PHYSICAL, "vnet")
