# SPDX-License-Identifier: Apache-2.0
"""The settings of the API's rate limit, with CloudStack's names and defaults."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.configurations.setting import Setting
from systemvm.management.state import configurations
from systemvm.management.state.database import Connection

_GROUP = "API"

ENABLED = Setting(
    name="api.throttling.enabled",
    default=False,
    description="whether calls of the API are limited for each account; root administrators never are",
    group=_GROUP,
    scope="global",
)
INTERVAL = Setting(
    name="api.throttling.interval",
    default=1,
    least=1,
    most=86_400,
    unit="seconds",
    description="the time in which calls are counted, from the first one on",
    group=_GROUP,
    scope="global",
)
MAX = Setting(
    name="api.throttling.max",
    default=25,
    least=1,
    most=1_000_000,
    unit="calls",
    description="how many calls an account can send in each interval",
    group=_GROUP,
    scope="global",
)

THROTTLING_SETTINGS = (ENABLED, INTERVAL, MAX)


@frozen
class ThrottlingLimits:
    """What holds now."""

    enabled: bool
    interval_s: int
    max_calls: int


def throttling_limits(connection: Connection) -> ThrottlingLimits:
    """Return the limits that hold for each account."""
    changed = configurations.values(connection, None)

    def value(setting: Setting) -> int:
        return int(setting.value_in(changed))

    return ThrottlingLimits(bool(value(ENABLED)), value(INTERVAL), value(MAX))
