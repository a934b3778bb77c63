# SPDX-License-Identifier: Apache-2.0
"""The settings of primary storage, with CloudStack's names and meanings.

They hold for pools that were created by the API. A host's own directory has no limit but its file system.
"""

from __future__ import annotations

import re

from attrs import frozen

from systemvm.management.configurations.setting import Setting, SettingError
from systemvm.management.state import configurations
from systemvm.management.state.database import Connection

_MAX_FACTOR = 100.0
_DECIMAL = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")


def share(text: str) -> str:
    return _number(text, 0.0, 1.0)


def _factor(text: str) -> str:
    return _number(text, 1.0, _MAX_FACTOR)


def _number(text: str, least: float, most: float) -> str:
    if not _DECIMAL.fullmatch(text) or not least <= float(text) <= most:
        raise SettingError(f"value must be a number from {least:g} to {most:g}: {text[:32]!r}")
    return text  # as it is given, as in CloudStack: who sets it again changes nothing


USED_THRESHOLD = Setting(
    name="pool.storage.capacity.disablethreshold",
    default="0.85",
    check=share,
    group="Storage",
    description="share of a storage pool's capacity, 0 to 1: while more is used, it gets no new volume",
)
ALLOCATED_THRESHOLD = Setting(
    name="pool.storage.allocated.capacity.disablethreshold",
    default="0.85",
    check=share,
    group="Storage",
    description="share of a storage pool's capacity with overprovisioning, 0 to 1: it gets no volume with "
    "which the virtual sizes of its volumes were more",
)
OVERPROVISIONING = Setting(
    name="storage.overprovisioning.factor",
    default="2",
    check=_factor,
    group="Storage",
    description="how many times a storage pool's capacity the virtual sizes of its volumes can be, 1 to 100",
)

STORAGE_SETTINGS = (USED_THRESHOLD, ALLOCATED_THRESHOLD, OVERPROVISIONING)


@frozen
class StorageLimits:
    """The limits of a zone's pools."""

    used_threshold: float
    allocated_threshold: float
    overprovisioning: float


def limits(connection: Connection, zone_id: int) -> StorageLimits:
    """Return the limits that hold in a zone."""
    changed = configurations.values(connection, zone_id)

    def value(setting: Setting) -> float:
        return float(changed.get(setting.name) or str(setting.default))

    return StorageLimits(value(USED_THRESHOLD), value(ALLOCATED_THRESHOLD), value(OVERPROVISIONING))
