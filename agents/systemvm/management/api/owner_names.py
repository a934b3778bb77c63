# SPDX-License-Identifier: Apache-2.0
"""Accounts, domains, zones, hosts, stores and offerings, for answers that contain their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from systemvm.management.state import accounts, offerings, roles, zones
from systemvm.management.state.accounts import Account, Domain
from systemvm.management.state.database import Connection
from systemvm.management.state.kept_results import keep
from systemvm.management.state.offerings import DiskOffering, ServiceOffering
from systemvm.management.state.roles import AccountRole
from systemvm.management.state.zones import Host, ImageStore, Zone

#: The number of no row, for filters.
NO_ROW = 0
_TABLES = (
    "accounts",
    "domains",
    "roles",
    "zones",
    "hosts",
    "image_stores",
    "service_offerings",
    "disk_offerings",
)


@frozen
class OwnerNames:
    """Rows by number."""

    accounts: Mapping[int, Account]
    domains: Mapping[int, Domain]
    roles: Mapping[int, AccountRole]  # those that were made, also those that were deleted
    zones: Mapping[int, Zone]
    hosts: Mapping[int, Host]
    stores: Mapping[int, ImageStore]
    offerings: Sequence[ServiceOffering]
    disk_offerings: Mapping[int, DiskOffering]  # also those that were deleted

    def zone(self, number: int | None) -> Zone | None:
        return None if number is None else self.zones.get(number)

    def number_of_zone(self, uuid: str | None) -> int | None:
        """Return the number of a zone for a filter: None for None, NO_ROW for a UUID of none."""
        if uuid is None:
            return None
        return next((zone.id for zone in self.zones.values() if zone.uuid == uuid), NO_ROW)

    def number_of_host(self, uuid: str | None) -> int | None:
        """Return the number of a host for a filter, as `number_of_zone`."""
        if uuid is None:
            return None
        return next((host.id for host in self.hosts.values() if host.uuid == uuid), NO_ROW)

    def number_of_domain(self, uuid: str | None) -> int | None:
        """Return the number of a domain for a filter, as `number_of_zone`."""
        if uuid is None:
            return None
        return next((domain.id for domain in self.domains.values() if domain.uuid == uuid), NO_ROW)

    def numbers_of_domains(self, uuid: str | None, *, recursive: bool) -> frozenset[int] | None:
        """Return the number of a domain for a filter, with `recursive` also those of all beneath it."""
        number = self.number_of_domain(uuid)
        if number is None:
            return None
        top = self.domains.get(number)
        below = [one.id for one in self.domains.values() if recursive and top and one.is_beneath(top)]
        return frozenset({number, *below})

    def host(self, number: int | None) -> Host | None:
        return None if number is None else self.hosts.get(number)


def read_names(connection: Connection) -> OwnerNames:
    """Read all of them: there are few, and a list needs most. They are kept until one of them changes."""
    return keep(connection, "owner names", _TABLES, _read)


def _read(connection: Connection) -> OwnerNames:
    return OwnerNames(
        accounts={row.id: row for row in accounts.all_accounts(connection)},
        domains={row.id: row for row in accounts.all_domains(connection)},
        roles={row.id: row for row in roles.all_roles(connection)},
        zones={row.id: row for row in zones.all_zones(connection)},
        hosts={row.id: row for row in zones.all_hosts(connection)},
        stores={row.id: row for row in zones.all_stores(connection)},
        offerings=offerings.list_service_offerings(connection),
        disk_offerings={row.id: row for row in offerings.all_disk_offerings(connection)},
    )
