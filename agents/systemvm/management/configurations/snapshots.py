# SPDX-License-Identifier: Apache-2.0
"""The settings of snapshots of volumes, with CloudStack's names."""

from __future__ import annotations

from collections.abc import Mapping

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


def _most(interval: str) -> Setting:
    return Setting(
        name=f"snapshot.max.{interval}",
        default=8,
        least=1,
        most=256,
        unit="snapshots",
        description=f"how many {interval} snapshots of a volume a policy keeps at most",
        group=_GROUP,
    )


#: By the interval of the policy.
MOST_KEPT = {name.upper(): _most(name) for name in ("hourly", "daily", "weekly", "monthly")}

SNAPSHOT_SETTINGS = (DELTA_MAX, *MOST_KEPT.values())


@frozen
class SnapshotSettings:
    """The values of a zone."""

    max_chain: int
    most_kept: Mapping[str, int]  # by the interval of a policy


def of_zone(connection: Connection, zone_id: int | None) -> SnapshotSettings:
    """Return what holds for the snapshots of a zone now."""
    changed = configurations.values(connection, zone_id)

    def value(setting: Setting) -> int:
        return int(setting.value_in(changed))

    return SnapshotSettings(
        max_chain=value(DELTA_MAX),
        most_kept={interval: value(setting) for interval, setting in MOST_KEPT.items()},
    )
