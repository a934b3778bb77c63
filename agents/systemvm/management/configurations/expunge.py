# SPDX-License-Identifier: Apache-2.0
"""The settings of destroyed VMs, with CloudStack's names and defaults.

A value of the daemon's file holds until the setting is changed.
"""

from __future__ import annotations

import msgspec

from systemvm.management.config import ExpungeConfig
from systemvm.management.configurations.setting import Setting
from systemvm.management.state import configurations
from systemvm.management.state.database import Connection

_GROUP = "Virtual Machines"

DELAY = Setting(
    name="expunge.delay",
    default=86_400,
    most=366 * 86_400,
    unit="seconds",
    description="how long a destroyed VM can be recovered; VMs that are destroyed already keep their time",
    group=_GROUP,
    scope="global",
)
RECOVER = Setting(
    name="allow.user.expunge.recover.vm",
    default=False,
    description="whether users expunge and recover their VMs",
    group=_GROUP,
    scope="global",
)
VIEW = Setting(
    name="allow.user.view.destroyed.vm",
    default=False,
    description="whether users see what they have destroyed",
    group=_GROUP,
    scope="global",
)

#: The settings and their keys in the daemon's file.
_KEYS = {DELAY: "delay", RECOVER: "allow_user_expunge_recover_vm", VIEW: "allow_user_view_destroyed_vm"}

EXPUNGE_SETTINGS = tuple(_KEYS)


def texts_of(file: ExpungeConfig) -> dict[str, str]:
    """Return the values of the daemon's file by the settings' names."""
    values = {setting: getattr(file, key) for setting, key in _KEYS.items()}
    values[DELAY] = round(file.delay)
    return {setting.name: setting.text(value) for setting, value in values.items()}


def expunge_rules(connection: Connection, file: ExpungeConfig) -> ExpungeConfig:
    """Return what holds now, where `file` has what the daemon's file says."""
    changed = configurations.values(connection, None)
    values = {key: setting.value_in(changed) for setting, key in _KEYS.items() if setting.name in changed}
    return msgspec.structs.replace(file, **values)
