# SPDX-License-Identifier: Apache-2.0
"""How much of each kind of resource accounts have, and can have, as CloudStack's keys say it.

Limit and available are texts; storage is in GiB, where the total of primary storage is rounded down and that
of secondary storage is not (AccountJoinDaoImpl). Whoever has more than a limit that was lowered since has 0
available; CloudStack has a negative number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from systemvm.management.api.parameters import Arguments, ParameterType, optional
from systemvm.management.configurations.resource_limits import UNLIMITED
from systemvm.management.resource_limits import limits
from systemvm.management.resource_limits.limits import GIB, ZoneLimit
from systemvm.management.state import resource_counts
from systemvm.management.state.accounts import Account
from systemvm.management.state.database import Connection
from systemvm.management.state.resource_counts import ResourceType

#: What the keys of each kind begin with.
_NAMES = {
    ResourceType.user_vm: "vm",
    ResourceType.volume: "volume",
    ResourceType.snapshot: "snapshot",
    ResourceType.template: "template",
    ResourceType.network: "network",
    ResourceType.cpu: "cpu",
    ResourceType.memory: "memory",
    ResourceType.primary_storage: "primarystorage",
    ResourceType.secondary_storage: "secondarystorage",
}
_UNLIMITED = "Unlimited"
_WITH_USE = ("all", "resource")
DETAILS = optional(
    "details",
    ParameterType.LIST,
    "min: without what they have of each kind of resource, and can have, which is not counted then",
    choices=(*_WITH_USE, "min"),
)


def wants_use(arguments: Arguments) -> bool:
    """Return whether the answer of a call with the parameter `details` has these keys."""
    return any(word in _WITH_USE for word in arguments.get("details") or _WITH_USE)


def of_accounts(
    connection: Connection, chosen: Sequence[Account], zone_limit: ZoneLimit
) -> dict[int, dict[str, Any]]:
    """Return the keys of accounts and their values, by the account's number."""
    most = limits.of_accounts(connection, chosen)
    stored_gib = limits.secondary_storage_gib(connection, chosen, zone_limit)
    counts = resource_counts.of_accounts(connection, (account.id for account in chosen))
    return {
        account.id: _keys(_limits(most[account.id], stored_gib[account.id]), counts[account.id])
        for account in chosen
    }


def _limits(most: Mapping[ResourceType, int], stored_gib: int) -> dict[ResourceType, int]:
    stored = stored_gib if stored_gib == UNLIMITED else stored_gib * GIB
    return {**most, ResourceType.secondary_storage: stored}


def _keys(most: Mapping[ResourceType, int], counts: Mapping[ResourceType, int]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for kind, name in _NAMES.items():
        limit, total, available = _of_kind(kind, most[kind], counts[kind])
        keys |= {f"{name}limit": limit, f"{name}total": total, f"{name}available": available}
    return keys


def _of_kind(kind: ResourceType, most: int, count: int) -> tuple[str, float, str]:
    """Return limit, total and what is available, of values in the units of the counts."""
    total: float
    if kind is ResourceType.secondary_storage:
        total = round(count / GIB, 6)
    else:
        total = count // GIB if kind.is_storage else count
    if most == UNLIMITED:
        return _UNLIMITED, total, _UNLIMITED
    limit = most // GIB if kind.is_storage else most
    return str(limit), total, _text(max(0, limit - total))


def _text(amount: float) -> str:
    return str(amount) if isinstance(amount, int) else f"{amount:f}".rstrip("0").rstrip(".")
