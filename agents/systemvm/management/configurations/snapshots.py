# SPDX-License-Identifier: Apache-2.0
"""The settings of snapshots of volumes, with CloudStack's names."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.configurations.setting import Setting
from systemvm.management.state import configurations
from systemvm.management.state.database import Connection

_GROUP = "Snapshots"

DELTA_MAX = Setting(
    name="snapshot.delta.max",
    default=16,
    least=1,
    most=256,
    unit="snapshots",
    description="how many snapshots of a volume depend on one another at most, the whole one among them; "
    "1: each snapshot is whole",
    group=_GROUP,
)

SNAPSHOT_SETTINGS = (DELTA_MAX,)


@frozen
class SnapshotSettings:
    """The values of a zone."""

    max_chain: int


def of_zone(connection: Connection, zone_id: int | None) -> SnapshotSettings:
    """Return what holds for the snapshots of a zone now."""
    text = configurations.values(connection, zone_id).get(DELTA_MAX.name)
    return SnapshotSettings(max_chain=int(DELTA_MAX.default if text is None else DELTA_MAX.parse(text)))
