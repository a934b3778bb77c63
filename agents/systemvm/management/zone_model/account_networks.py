# SPDX-License-Identifier: Apache-2.0
"""What every guest network that an account creates needs, whatever its type."""

from __future__ import annotations

from systemvm.management.resource_limits import limits
from systemvm.management.state import guest_networks
from systemvm.management.state.database import Connection
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.zones import Zone
from systemvm.management.zone_model.refusals import check_name


def check_new(connection: Connection, zone: Zone, account_id: int, name: str) -> str:
    """Check that an account can have one more network, and return its name.

    Raises: ResourceLimitError; ModelError when the account can use a network of that name already.
    """
    limits.check(connection, account_id, {ResourceType.network: 1})
    usable = [
        each for each in guest_networks.list_networks(connection, zone.id) if each.is_usable_by(account_id)
    ]
    return check_name("name", name, [each.name for each in usable])
