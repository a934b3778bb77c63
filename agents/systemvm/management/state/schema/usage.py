# SPDX-License-Identifier: Apache-2.0
"""The table of what accounts have used and nothing else counts."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import numbered
from systemvm.management.state.schema.base import table

# Bytes that SSVMs have sent by links, each as far as it was counted by one process; the sum is the account's.
served_bytes = table(
    "served_bytes",
    *numbered(),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("agent_name", sa.String(64), nullable=False),
    sa.Column("instance", sa.String(64), nullable=False),  # of the process; empty: all that have ended
    sa.Column("size_bytes", sa.BigInteger, nullable=False, default=0),
    sa.UniqueConstraint("account_id", "agent_name", "instance"),
)
