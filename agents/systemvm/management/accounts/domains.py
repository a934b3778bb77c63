# SPDX-License-Identifier: Apache-2.0
"""Changes of domains in the database: each function is one transaction with all of its checks."""

from __future__ import annotations

from systemvm.management.accounts.errors import AccountError
from systemvm.management.state import accounts, domains, events
from systemvm.management.state.accounts import ROOT_DOMAIN_ID, Domain
from systemvm.management.state.database import Connection
from systemvm.management.state.rows import NotFoundError

#: Of names and of paths, which are those of all domains above, too.
MAX_LENGTH = 255
#: The name of the root, with which a path can begin.
_ROOT = "ROOT"


def create(connection: Connection, name: str, parent_id: int, user_id: int | None) -> Domain:
    """Create a domain beneath another one.

    Raises: NotFoundError when that is deleted, AccountError for a name that cannot be.
    """
    if not domains.is_present(connection, parent_id):
        raise NotFoundError("parent domain was deleted")
    parent = accounts.domain_by_id(connection, parent_id)
    path = _free_path(connection, name, parent)
    domain = accounts.create_domain(connection, name, path, parent.id)
    _record(connection, domain, "DOMAIN.CREATE", "is created", user_id)
    return domain


def rename(connection: Connection, domain_id: int, name: str, user_id: int | None) -> Domain:
    """Give a domain another name: the paths of those beneath it change, too.

    Raises: AccountError for the root domain, and for a name that cannot be.
    """
    domain = require(connection, domain_id)
    if name == domain.name:
        return domain
    parent = accounts.domain_by_id(connection, domain.parent_id or ROOT_DOMAIN_ID)
    path = _free_path(connection, name, parent, domain)
    longest = max((len(each.path) for each in domains.beneath(connection, domain)), default=0)
    _check_path(path + "x" * max(0, longest - len(domain.path)))
    renamed = domains.rename(connection, domain, name, path)
    _record(connection, renamed, "DOMAIN.UPDATE", f"was {domain.pretty_path}", user_id)
    return renamed


def remove(connection: Connection, domain_id: int, user_id: int | None) -> None:
    """Delete a domain with those beneath it, as the last step of a deletion; does nothing when it is deleted.

    Raises: AccountError when one of them has an account.
    """
    if not domains.is_present(connection, domain_id):
        return
    domain = require(connection, domain_id)
    check_unused(connection, domain)
    for each in (*domains.beneath(connection, domain), domain):
        domains.remove(connection, each)
        _record(connection, each, "DOMAIN.DELETE", "is deleted", user_id)


def require(connection: Connection, domain_id: int) -> Domain:
    """Return a domain that can be changed.

    Raises: NotFoundError when it is deleted, AccountError for the root domain.
    """
    if domain_id == ROOT_DOMAIN_ID:
        raise AccountError(
            "domain ROOT can be neither changed nor deleted", "choose another domain", parameter="id"
        )
    if not domains.is_present(connection, domain_id):
        raise NotFoundError("domain was deleted")
    return accounts.domain_by_id(connection, domain_id)


def check_unused(connection: Connection, domain: Domain, *, with_domains: bool = False) -> None:
    """Check that a domain, and those beneath it, have no accounts; `with_domains`: that none are beneath it.

    Raises: AccountError, which names how many there are.
    """
    count = len(domains.accounts_beneath(connection, domain.path))
    if count:
        raise AccountError(
            f"Can't delete the domain yet because it has {count} accounts that need a cleanup",
            "delete them first, or send cleanup=true",
            parameter="id",
        )
    if with_domains and (below := len(domains.beneath(connection, domain))):
        raise AccountError(
            f"Can't delete the domain yet because it has {below} domains beneath it",
            "delete them first, or send cleanup=true",
            parameter="id",
        )


def _free_path(connection: Connection, name: str, parent: Domain, renamed: Domain | None = None) -> str:
    """Return the path of a new name.

    Raises: AccountError when the name cannot be, or another domain has it, with other capitals, too.
    """
    if not name.strip() or "/" in name or len(name) > MAX_LENGTH or name.upper() == _ROOT:
        raise AccountError(
            f"Invalid value for parameter name: it must have 1 to {MAX_LENGTH} characters and no slash, and"
            f" must not be {_ROOT}",
            "choose another name",
            parameter="name",
        )
    path = f"{parent.path.rstrip('/')}/{name}"
    _check_path(path)
    for other in domains.directly_beneath(connection, parent):
        if other != renamed and other.name.casefold() == name.casefold():
            raise AccountError(
                f"Domain with name {other.name} already exists for the parent id={parent.uuid}",
                "choose another name",
                parameter="name",
            )
    return path


def _check_path(path: str) -> None:
    if len(path) > MAX_LENGTH:
        raise AccountError(
            f"path is too long: {len(path)} characters, the maximum is {MAX_LENGTH}",
            "choose a shorter name",
            parameter="name",
        )


def _record(connection: Connection, domain: Domain, kind: str, text: str, user_id: int | None) -> None:
    account_id = None if user_id is None else accounts.user_by_id(connection, user_id).account_id
    events.record(
        connection,
        kind,
        f"domain {domain.name} {text}",
        account_id=account_id or accounts.SYSTEM_ACCOUNT_ID,
        domain_id=domain.id,
        user_id=user_id,
        resource_type="Domain",
        resource_uuid=domain.uuid,
    )
