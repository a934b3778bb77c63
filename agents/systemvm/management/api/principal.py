# SPDX-License-Identifier: Apache-2.0
"""The authenticated user of an API call, and what that user has access to."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.state.accounts import Account, Domain, User
from systemvm.management.state.status import AccountType

ADMIN_ONLY = frozenset({AccountType.ADMIN})
ANY_ACCOUNT = frozenset(AccountType)


@frozen
class Principal:
    """An authenticated user with their account and domain."""

    user: User
    account: Account
    domain: Domain
    login_uuid: str | None = None  # of the session of this call; None for API keys and operators

    @property
    def account_type(self) -> AccountType:
        return AccountType(self.account.type)

    @property
    def is_admin(self) -> bool:
        return self.account.is_admin

    def may_use(self, account_id: int) -> bool:
        """Return whether this user has access to the account's objects."""
        return self.is_admin or account_id == self.account.id
