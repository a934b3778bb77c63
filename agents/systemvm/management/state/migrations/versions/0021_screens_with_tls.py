# SPDX-License-Identifier: Apache-2.0
"""Which CA verifies the VNC server of a running VM; VMs that run already have no TLS."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vm_instances", sa.Column("vnc_ca_pem", sa.Text(), nullable=True))


def downgrade() -> None:
    # not in a batch, which would create the table again and delete the rows that refer to it
    op.drop_column("vm_instances", "vnc_ca_pem")
