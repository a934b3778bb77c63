# SPDX-License-Identifier: Apache-2.0
"""The limits of accounts and domains that have none of their own, with CloudStack's names.

CloudStack has such defaults as 20 VMs. Here there is no limit until an administrator sets one, so that
an upgrade refuses nothing. Secondary storage has its default in the zone's file.
"""

from __future__ import annotations

from collections.abc import Mapping

from systemvm.management.configurations.setting import Setting
from systemvm.management.state import configurations
from systemvm.management.state.database import Connection
from systemvm.management.state.resource_counts import ResourceType

UNLIMITED = -1
#: Far above what any account has, and far below what the database counts.
MOST = 1 << 32
#: The end of the setting's name, what it counts, and its unit.
_KINDS = {
    ResourceType.user_vm: ("user.vms", "VMs", "VMs"),
    ResourceType.volume: ("volumes", "volumes, root disks among them", "volumes"),
    ResourceType.snapshot: ("snapshots", "snapshots of volumes", "snapshots"),
    ResourceType.template: ("templates", "templates and ISOs", "templates"),
    ResourceType.network: ("networks", "isolated and L2 networks", "networks"),
    ResourceType.cpu: ("cpus", "virtual CPUs of its VMs", "CPUs"),
    ResourceType.memory: ("memory", "MiB of memory of its VMs", "MiB"),
    ResourceType.primary_storage: ("primary.storage", "GiB of its volumes", "GiB"),
}


def _setting(owner: str, kind: ResourceType) -> Setting:
    name, what, unit = _KINDS[kind]
    return Setting(
        name=f"max.{owner}.{name}",
        default=UNLIMITED,
        least=UNLIMITED,
        most=MOST,
        unit=unit,
        description=f"{what}: how many each {owner} without a limit of its own can have; -1: no limit",
        group=f"{owner.capitalize()} Defaults",
        scope="global",
    )


OF_ACCOUNTS = {kind: _setting("account", kind) for kind in _KINDS}
OF_DOMAINS = {kind: _setting("domain", kind) for kind in _KINDS}
RESOURCE_LIMIT_SETTINGS = (*OF_ACCOUNTS.values(), *OF_DOMAINS.values())


def defaults(connection: Connection, settings: Mapping[ResourceType, Setting]) -> dict[ResourceType, int]:
    """Return the values of `OF_ACCOUNTS` or of `OF_DOMAINS`."""
    changed = configurations.values(connection, None)
    return {
        kind: int(setting.parse(changed.get(setting.name, str(setting.default))))
        for kind, setting in settings.items()
    }
