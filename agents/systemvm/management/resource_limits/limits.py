# SPDX-License-Identifier: Apache-2.0
"""The limits that hold for accounts and domains, and the check of what is new.

The rules and the messages are CloudStack's (ResourceLimitManagerImpl): a root administrator has no limit; an
account's own limit comes before the default; every domain above the account is checked, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from systemvm.management.configurations import resource_limits as settings
from systemvm.management.configurations.resource_limits import UNLIMITED
from systemvm.management.resource_limits.errors import ResourceLimitError
from systemvm.management.state import accounts, resource_counts, zones
from systemvm.management.state import resource_limits as rows
from systemvm.management.state.accounts import ROOT_DOMAIN_ID, Account, Domain
from systemvm.management.state.database import Connection
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.storage_quota import limit_gib

GIB = 1 << 30
#: The limit of secondary storage in GiB that a zone's file gives to each account, by the zone's name.
ZoneLimit = Callable[[str], int | None]
#: The kinds that this module limits. Secondary storage is reserved by SSVMs (`state/storage_quota.py`).
CHECKED = tuple(settings.OF_ACCOUNTS)


def of_accounts(connection: Connection, chosen: Iterable[Account]) -> dict[int, dict[ResourceType, int]]:
    """Return the limits of accounts by number and kind, in the units of the counts; -1 is none."""
    wanted = list(chosen)
    own = rows.of_accounts(connection, (account.id for account in wanted))
    default = settings.defaults(connection, settings.OF_ACCOUNTS)
    return {
        account.id: {
            kind: UNLIMITED
            if account.is_admin
            else _in_units_of_counts(kind, own.get((account.id, kind), default[kind]))
            for kind in CHECKED
        }
        for account in wanted
    }


def secondary_storage_gib(
    connection: Connection, chosen: Iterable[Account], zone_limit: ZoneLimit
) -> dict[int, int]:
    """Return the lowest limit of all zones of accounts in GiB, by number; -1 is none."""
    of_zones = [zone_limit(zone.name) for zone in zones.list_zones(connection)] or [None]
    found = {account.id: [limit_gib(account, each) for each in of_zones] for account in chosen}
    return {
        number: min((limit for limit in each if limit is not None), default=UNLIMITED)
        for number, each in found.items()
    }


def of_domain(connection: Connection, domain: Domain) -> dict[ResourceType, int]:
    """Return the limits of a domain by kind, in the units of the counts; the root has none."""
    own = rows.of_domains(connection, (domain.id,))
    default = settings.defaults(connection, settings.OF_DOMAINS)
    if domain.id == ROOT_DOMAIN_ID:
        return dict.fromkeys(CHECKED, UNLIMITED)
    return {kind: _in_units_of_counts(kind, own.get((domain.id, kind), default[kind])) for kind in CHECKED}


def check(connection: Connection, account_id: int, new: Mapping[ResourceType, int]) -> None:
    """Check whether an account can have more, in the transaction that creates it.

    Raises: ResourceLimitError when its limit, or that of a domain above it, would be exceeded.
    """
    account = accounts.account_by_id(connection, account_id)
    if account.is_admin:
        return
    limits = of_accounts(connection, [account])[account.id]
    limited = [kind for kind in new if limits[kind] != UNLIMITED]
    counts = resource_counts.of_accounts(connection, [account.id], limited)[account.id]
    for kind in limited:
        if counts[kind] + new[kind] > limits[kind]:
            raise _of_account(account, kind, limits[kind], counts[kind], new[kind])
    for domain in _domains_above(connection, account):
        of_this = of_domain(connection, domain)
        for kind, requested in new.items():
            if of_this[kind] == UNLIMITED:
                continue
            count = resource_counts.of_domain(connection, domain.path, kind)
            if count + requested > of_this[kind]:
                raise _of_domain(domain, kind, of_this[kind], count, requested)


def _domains_above(connection: Connection, account: Account) -> Sequence[Domain]:
    """Return an account's domain and those above it; the root, which has no limit, is not one of them."""
    found, number = [], account.domain_id
    while number != ROOT_DOMAIN_ID:
        domain = accounts.domain_by_id(connection, number)
        found.append(domain)
        number = domain.parent_id or ROOT_DOMAIN_ID
    return found


def _in_units_of_counts(kind: ResourceType, most: int) -> int:
    return most * GIB if kind.is_storage and most != UNLIMITED else most


def _of_account(
    account: Account, kind: ResourceType, limit: int, count: int, requested: int
) -> ResourceLimitError:
    return ResourceLimitError(
        f"Maximum amount of resources of Type = '{kind.name}', tag = 'null' for Account Name = {account.name}"
        f" in Domain Id = {account.domain_id} is exceeded: Account Resource Limit = {_text(kind, limit)},"
        f" Current Account Resource Amount = {_text(kind, count)}, Current Account Resource Reservation ="
        f" {_text(kind, 0)}, Requested Resource Amount = {_text(kind, requested)}.",
        "delete what is not needed, or ask an administrator for a higher limit",
    )


def _of_domain(
    domain: Domain, kind: ResourceType, limit: int, count: int, requested: int
) -> ResourceLimitError:
    return ResourceLimitError(
        f"Maximum domain resource limits of Type '{kind.name}' for Domain Id = {domain.uuid} is exceeded:"
        f" Domain Resource Limit = {_text(kind, limit)}, Current Domain Resource Amount ="
        f" {_text(kind, count)}, Current Resource Reservation = {_text(kind, 0)}, Requested Resource Amount ="
        f" {_text(kind, requested)}.",
        "delete what is not needed, or ask an administrator for a higher limit",
    )


def _text(kind: ResourceType, amount: int) -> str:
    """Return an amount as CloudStack writes it: sizes for people first, then in bytes."""
    return f"({amount / GIB:.2f} GB) {amount}" if kind.is_storage else str(amount)
