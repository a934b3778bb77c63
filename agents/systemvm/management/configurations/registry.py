# SPDX-License-Identifier: Apache-2.0
"""All settings that the API lists and changes."""

from __future__ import annotations

from systemvm.management.configurations.alerts import ALERT_SETTINGS
from systemvm.management.configurations.console import CONSOLE_SETTINGS
from systemvm.management.configurations.expunge import EXPUNGE_SETTINGS
from systemvm.management.configurations.image_storage import IMAGE_STORAGE_SETTINGS
from systemvm.management.configurations.public_names import PUBLIC_NAME_SETTINGS
from systemvm.management.configurations.resource_limits import RESOURCE_LIMIT_SETTINGS
from systemvm.management.configurations.second_factor import SECOND_FACTOR_SETTINGS
from systemvm.management.configurations.setting import Setting
from systemvm.management.configurations.snapshots import SNAPSHOT_SETTINGS
from systemvm.management.configurations.storage import STORAGE_SETTINGS
from systemvm.management.configurations.throttling import THROTTLING_SETTINGS

SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        *ALERT_SETTINGS,
        *CONSOLE_SETTINGS,
        *EXPUNGE_SETTINGS,
        *IMAGE_STORAGE_SETTINGS,
        *PUBLIC_NAME_SETTINGS,
        *RESOURCE_LIMIT_SETTINGS,
        *SECOND_FACTOR_SETTINGS,
        *SNAPSHOT_SETTINGS,
        *STORAGE_SETTINGS,
        *THROTTLING_SETTINGS,
    )
}
