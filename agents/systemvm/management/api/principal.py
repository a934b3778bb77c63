# SPDX-License-Identifier: Apache-2.0
"""The authenticated user of an API call, and what that user has access to."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.state.accounts import Account, Domain, User
from systemvm.management.state.roles import Rules
from systemvm.management.state.status import AccountType

ADMIN_ONLY = frozenset({AccountType.ADMIN})
#: Root administrators, and domain administrators within their domain and those beneath it.
ADMINISTRATORS = frozenset({AccountType.ADMIN, AccountType.DOMAIN_ADMIN})
ANY_ACCOUNT = frozenset(AccountType)


@frozen
class Principal:
    """An authenticated user with their account and domain."""

    user: User
    account: Account
    domain: Domain
    login_uuid: str | None = None  # of the session of this call; None for API keys and operators
    is_operator: bool = False  # of this host, by the UNIX socket
    is_verified: bool = True  # False: the second factor of this session is missing
    #: Of a domain administrator: the accounts in the domain and beneath it, but no root administrators.
    beneath: frozenset[int] = frozenset()
    rules: Rules | None = None  # of the account's role; None: all that its type permits
    key_rules: Rules | None = None  # of the API key; None: all that its user can call

    @property
    def account_type(self) -> AccountType:
        return AccountType(self.account.type)

    @property
    def is_admin(self) -> bool:
        """Whether this is a root administrator."""
        return self.account.is_admin

    @property
    def is_administrator(self) -> bool:
        """Whether this is a root administrator or a domain administrator."""
        return self.account_type in ADMINISTRATORS

    def can_call(self, command: str, roles: frozenset[AccountType]) -> bool:
        """Return whether this user can call a command that is for accounts of these types."""
        limits = [rules for rules in (self.rules, self.key_rules) if rules is not None]
        return self.account_type in roles and all(rules.permit(command) for rules in limits)

    @property
    def is_restricted(self) -> bool:
        """Whether role or key permit less than the type of the account."""
        return self.rules is not None or self.key_rules is not None

    @property
    def account_ids(self) -> frozenset[int] | None:
        """The accounts whose objects this user has access to; None for all."""
        return None if self.is_admin else self.beneath | {self.account.id}

    def may_use(self, account_id: int) -> bool:
        """Return whether this user has access to the account's objects."""
        return self.is_admin or account_id == self.account.id or account_id in self.beneath

    def may_use_domain(self, domain: Domain) -> bool:
        """Return whether this user can name a domain: the own one, and administrators those beneath it."""
        if self.is_admin or domain.id == self.domain.id:
            return True
        return self.is_administrator and domain.is_beneath(self.domain)
