# SPDX-License-Identifier: Apache-2.0
"""L2 guest networks. Releases before cannot read their type.

Stop the machines on L2 networks before a downgrade: the release before removes the bridge of a network
without a subnet, also while machines run on it.
"""

from __future__ import annotations

from alembic import op

revision = "0106"
down_revision = "0100"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make isolated networks without a subnet L2 networks, as which a downgrade left them."""
    op.execute(
        "UPDATE guest_networks SET guest_type = 'L2' WHERE guest_type = 'Isolated' AND removed IS NULL AND id"
        " NOT IN (SELECT guest_network_id FROM address_ranges WHERE guest_network_id IS NOT NULL)"
    )


def downgrade() -> None:
    # they stay their accounts' own; the release before starts no VM on a network without a subnet
    op.execute("UPDATE guest_networks SET guest_type = 'Isolated' WHERE guest_type = 'L2'")
