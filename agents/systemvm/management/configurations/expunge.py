# SPDX-License-Identifier: Apache-2.0
"""The settings of destroyed VMs, with CloudStack's names and defaults.

A value of the daemon's file holds until the setting is changed.
"""

from __future__ import annotations

from collections.abc import Mapping

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

EXPUNGE_SETTINGS = (DELAY, RECOVER, VIEW)


def texts_of(file: ExpungeConfig) -> dict[str, str]:
    """Return the values of the daemon's file by the settings' names."""
    return {
        DELAY.name: str(round(file.delay)),
        RECOVER.name: RECOVER.text(file.allow_user_expunge_recover_vm),
        VIEW.name: VIEW.text(file.allow_user_view_destroyed_vm),
    }


def expunge_rules(connection: Connection, file: ExpungeConfig) -> ExpungeConfig:
    """Return what holds now, where `file` has what the daemon's file says."""
    return _changed(file, configurations.values(connection, None))


def _changed(file: ExpungeConfig, changed: Mapping[str, str]) -> ExpungeConfig:
    keys = {DELAY: "delay", RECOVER: "allow_user_expunge_recover_vm", VIEW: "allow_user_view_destroyed_vm"}
    values = {key: setting.value_in(changed) for setting, key in keys.items() if setting.name in changed}
    return msgspec.structs.replace(file, **values)
