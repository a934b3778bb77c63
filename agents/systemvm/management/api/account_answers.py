# SPDX-License-Identifier: Apache-2.0
"""Answers of accounts, users and domains from their rows, in a few queries for a whole list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from systemvm.management.api import resource_use
from systemvm.management.api.answers.accounts import AccountAnswer, DomainAnswer, UserAnswer
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.configurations import second_factor as settings
from systemvm.management.resource_limits.limits import ZoneLimit
from systemvm.management.state import accounts, instances, second_factors
from systemvm.management.state.accounts import Account, Domain, User
from systemvm.management.state.database import Connection
from systemvm.management.state.roles import DEFAULTS

#: A list without pages can have more than a query can name.
AT_ONCE = 500


@frozen
class _SecondFactors:
    """Whose logins ask for a second factor, among the users of an answer."""

    users: frozenset[int]
    settings: settings.SecondFactorSettings


def user_answers(connection: Connection, users: Sequence[User]) -> list[UserAnswer]:
    names, factors = read_names(connection), _second_factors(connection, users)
    return [_user(user, names.accounts[user.account_id], names, factors) for user in users]


def account_answers(
    connection: Connection, chosen: Sequence[Account], zone_limit: ZoneLimit | None
) -> list[AccountAnswer]:
    """Return the answers of accounts; without `zone_limit` nothing of what they have is counted."""
    return [
        answer
        for begin in range(0, len(chosen), AT_ONCE)
        for answer in _account_answers(connection, chosen[begin : begin + AT_ONCE], zone_limit)
    ]


def _account_answers(
    connection: Connection, chosen: Sequence[Account], zone_limit: ZoneLimit | None
) -> list[AccountAnswer]:
    names, numbers = read_names(connection), [account.id for account in chosen]
    users: dict[int, list[User]] = {}
    for user in accounts.users_of(connection, *numbers):
        users.setdefault(user.account_id, []).append(user)
    use = {} if zone_limit is None else _use(connection, chosen, zone_limit)
    factors = _second_factors(connection, [user for several in users.values() for user in several])
    return [
        _account(account, names, users.get(account.id, []), use.get(account.id, {}), factors)
        for account in chosen
    ]


def domain_answers(connection: Connection, chosen: Sequence[Domain]) -> list[DomainAnswer]:
    by_id, parents = read_names(connection).domains, set[int]()
    for begin in range(0, len(chosen), AT_ONCE):
        numbers = [domain.id for domain in chosen[begin : begin + AT_ONCE]]
        parents |= accounts.parents_among(connection, numbers)
    return [_domain(domain, by_id, domain.id in parents) for domain in chosen]


def _role(account: Account, names: OwnerNames) -> dict[str, Any]:
    """Return the keys of an account's role."""
    default = next(role for role in DEFAULTS if role.type == account.type)
    made = names.roles.get(account.role_id or 0)
    return {
        "roletype": default.type_name,
        "roleid": default.uuid if made is None else made.uuid,
        "rolename": default.name if made is None else made.name,
    }


def _user(user: User, account: Account, names: OwnerNames, factors: _SecondFactors) -> UserAnswer:
    domain = names.domains[user.domain_id]
    return UserAnswer(
        id=user.uuid,
        username=user.username,
        firstname=user.first_name,
        lastname=user.last_name,
        email=user.email,
        created=user.created,
        state=user.state,
        account=account.name,
        accountid=account.uuid,
        accounttype=int(account.type),
        **_role(account, names),
        domainid=domain.uuid,
        domain=domain.name,
        isdefault=False,
        iscallerchilddomain=False,
        is2faenabled=user.id in factors.users,
        is2famandated=factors.settings.mandates(user),
    )


def _account(
    account: Account,
    names: OwnerNames,
    users: Sequence[User],
    use: Mapping[str, Any],
    factors: _SecondFactors,
) -> AccountAnswer:
    domain = names.domains[account.domain_id]
    return AccountAnswer(
        id=account.uuid,
        name=account.name,
        accounttype=int(account.type),
        **_role(account, names),
        domainid=domain.uuid,
        domain=domain.name,
        domainpath=domain.pretty_path,
        state=account.state,
        created=account.created,
        isdefault=False,
        **use,
        user=[_user(user, account, names, factors) for user in users],
    )


def _domain(domain: Domain, by_id: Mapping[int, Domain], has_child: bool) -> DomainAnswer:
    parent = by_id.get(domain.parent_id or 0)
    return DomainAnswer(
        id=domain.uuid,
        name=domain.name,
        path=domain.pretty_path,
        level=len([part for part in domain.path.split("/") if part]),
        haschild=has_child,
        parentdomainid=parent.uuid if parent else None,
        parentdomainname=parent.name if parent else None,
        state="Active",
    )


def _second_factors(connection: Connection, users: Sequence[User]) -> _SecondFactors:
    numbers, found = [user.id for user in users], set[int]()
    for begin in range(0, len(numbers), AT_ONCE):
        found |= second_factors.confirmed_among(connection, numbers[begin : begin + AT_ONCE])
    return _SecondFactors(frozenset(found), settings.read(connection))


def _use(
    connection: Connection, chosen: Sequence[Account], zone_limit: ZoneLimit
) -> dict[int, dict[str, Any]]:
    use = resource_use.of_accounts(connection, chosen, zone_limit)
    running = instances.count_running(connection, list(use))
    for number, keys in use.items():
        keys["vmrunning"] = running.get(number, 0)
        # a total that is kept can be newer than what this transaction sees
        keys["vmstopped"] = max(0, keys["vmtotal"] - keys["vmrunning"])
    return use
