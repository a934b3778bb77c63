# SPDX-License-Identifier: Apache-2.0
"""The tables of snapshots of volumes, and of the policies that take them."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import EnumText, UtcDateTime, now, user_visible
from systemvm.management.state.schema.base import table
from systemvm.management.state.status import SnapshotState

snapshots = table(
    "snapshots",
    *user_visible(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("volume_id", sa.ForeignKey("volumes.id"), nullable=False, index=True),
    # The snapshot that its file is an increment on; NULL: the file has everything.
    sa.Column("parent_id", sa.ForeignKey("snapshots.id"), index=True),
    sa.Column("store_id", sa.ForeignKey("image_stores.id"), nullable=False),
    # The snapshot in another zone that it was copied from. No foreign key: it outlives that one.
    sa.Column("copy_of", sa.Integer, index=True),
    sa.Column("host_id", sa.ForeignKey("hosts.id"), nullable=False),  # whose primary storage it comes from
    sa.Column("interval_type", sa.String(20), nullable=False, default="MANUAL"),
    sa.Column("state", EnumText(SnapshotState), nullable=False, default=SnapshotState.ALLOCATED, index=True),
    sa.Column("error_text", sa.Text),
    sa.Column("error_hint", sa.Text),
    sa.Column("size_bytes", sa.BigInteger),  # of the volume
    sa.Column("physical_size_bytes", sa.BigInteger),  # of the file: what was moved
    sa.Column("updated", UtcDateTime, nullable=False, default=now, onupdate=now),
    sa.Index(None, "account_id"),
)

# A volume has at most one of each interval.
snapshot_policies = table(
    "snapshot_policies",
    *user_visible(),
    sa.Column("volume_id", sa.ForeignKey("volumes.id"), nullable=False, index=True),
    sa.Column("interval_type", sa.String(20), nullable=False),
    sa.Column("schedule", sa.String(20), nullable=False),
    sa.Column("timezone", sa.String(64), nullable=False),
    sa.Column("max_snapshots", sa.Integer, nullable=False),
    sa.Column("next_run", UtcDateTime, index=True),  # NULL when it is removed
    sa.Index(None, "account_id"),
)
