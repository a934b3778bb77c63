# SPDX-License-Identifier: Apache-2.0
"""Who makes an API call, and what that lets them do."""

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
    login_uuid: str | None = None  # of the session that this call came in; none for keys and operators

    @property
    def account_type(self) -> AccountType:
        return AccountType(self.account.type)

    @property
    def is_admin(self) -> bool:
        return self.account.is_admin

    def may_use(self, account_id: int) -> bool:
        """Whether things of that account are this caller's to see and change."""
        return self.is_admin or account_id == self.account.id
