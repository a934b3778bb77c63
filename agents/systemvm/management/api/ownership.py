# SPDX-License-Identifier: Apache-2.0
"""`account`, `domainid`, `listall`, `isrecursive`: the owner of a new object, and whose objects are listed.

The rules are CloudStack's (AccountManagerImpl.finalizeOwner and buildACLSearchParameters). What it ignores
silently, such as a domain without an account for a new object, is rejected.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from systemvm.management.api.command import ApiCall
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.parameters import Arguments, ParameterType, only, optional
from systemvm.management.api.principal import Principal
from systemvm.management.state import accounts
from systemvm.management.state.accounts import Account, Domain
from systemvm.management.state.database import Connection

#: Parameters of commands that create something.
OWNER = (
    optional("account", ParameterType.STRING, "the account that will own it; requires domainid"),
    optional("domainid", ParameterType.UUID, "the domain of that account"),
)
#: What widens a list of objects of accounts.
SCOPE = (
    optional("isrecursive", ParameterType.BOOLEAN, "with domainid: include its subdomains"),
    optional("listall", ParameterType.BOOLEAN, "list those of all accounts that the caller has access to"),
    # Terraform's provider looks for an object in every project when it is in none
    only("projectid", ParameterType.STRING, "there are no projects, and -1 means those of any", "-1"),
)
#: Parameters of commands that list objects of accounts.
OWNERS = (
    optional(
        "account",
        ParameterType.STRING,
        "list only those of this account, in domainid or in the caller's domain",
    ),
    optional("domainid", ParameterType.UUID, "list only those of this domain"),
    *SCOPE,
)


@frozen
class OwnerFilter:
    """The accounts whose objects are listed; None for all."""

    account_ids: frozenset[int] | None

    def __contains__(self, account_id: int) -> bool:
        return self.account_ids is None or account_id in self.account_ids


def owner_of(connection: Connection, call: ApiCall) -> Account:
    """Return the owner of a new object: the caller's account, or the one that an administrator names.

    Raises: ApiError 431 for an unknown account, 401 for one that the caller must not act for.
    """
    name, domain_uuid = call.arguments.text("account"), call.arguments.text("domainid")
    principal = call.principal
    if name is None and domain_uuid is None:
        return principal.account
    if name is None:
        if domain_uuid == principal.domain.uuid:
            return principal.account
        raise parameter_error(
            "account",
            "account is missing: domainid alone does not name an owner",
            "give account and domainid together",
        )
    if domain_uuid is None:
        raise parameter_error("domainid", "Account name and domainid must be specified together")
    account = _account(connection, name, _domain(connection, domain_uuid))
    _check_may_act_for(principal, account)
    return account


def owners_of(
    connection: Connection, call: ApiCall, *, named: Sequence[str] = ("id",), all_by_default: bool = False
) -> OwnerFilter:
    """Return whose objects a list contains: the caller's unless the call names others.

    With `all_by_default`, and with one of the parameters `named`, which say what is listed, administrators
    get all without `listall`.

    Raises: ApiError 431 for an unknown account or domain, 401 for one that the caller has no access to.
    """
    arguments, principal = call.arguments, call.principal
    name, domain_uuid = arguments.text("account"), arguments.text("domainid")
    if name is not None:
        domain = _domain(connection, domain_uuid) if domain_uuid else principal.domain
        account = _account(connection, name, domain)
        _check_may_act_for(principal, account)
        return OwnerFilter(frozenset({account.id}))
    if domain_uuid is not None:
        domain = _domain(connection, domain_uuid)
        if not principal.may_use_domain(domain):
            raise unauthorized(
                f"account {principal.account.name} must not list objects of domain {domain.pretty_path}",
                parameter="domainid",
            )
        found = _accounts_in(connection, domain, recursive=_is_recursive(arguments))
        mine = principal.account_ids
        if not principal.is_administrator:
            return OwnerFilter(mine)
        return OwnerFilter(found if mine is None else found & mine)
    if all_by_default or arguments.flag("listall") or any(name in arguments for name in named):
        return OwnerFilter(principal.account_ids)
    return OwnerFilter(frozenset({principal.account.id}))


def _is_recursive(arguments: Arguments) -> bool:
    return arguments.flag("isrecursive", arguments.flag("listall"))


def _domain(connection: Connection, uuid: str) -> Domain:
    return accounts.domain_by_uuid(connection, uuid)


def _account(connection: Connection, name: str, domain: Domain) -> Account:
    found = accounts.account_by_name(connection, name, domain.id)
    if found is None:
        raise parameter_error("account", f"Unable to find account {name} in domain {domain.pretty_path}")
    return found


def _check_may_act_for(principal: Principal, account: Account) -> None:
    if not principal.may_use(account.id):
        raise unauthorized(
            f"account {principal.account.name} must not create or list objects of account {account.name}",
            parameter="account",
        )


def _accounts_in(connection: Connection, domain: Domain, *, recursive: bool) -> frozenset[int]:
    beneath = f"{domain.path.rstrip('/')}/"
    return frozenset(
        account.id
        for account in accounts.all_accounts(connection)
        if account.domain_id == domain.id
        or (recursive and accounts.domain_by_id(connection, account.domain_id).path.startswith(beneath))
    )
