# SPDX-License-Identifier: Apache-2.0
"""Whose accounts and users a caller can change: nobody whose rights exceed the caller's own.

Otherwise one whose role denies something could take the keys of another one, or give an own account more.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from systemvm.management.api.command import Command
from systemvm.management.api.errors import unauthorized
from systemvm.management.api.principal import Principal
from systemvm.management.state import roles
from systemvm.management.state.accounts import Account
from systemvm.management.state.database import Connection
from systemvm.management.state.status import AccountType


@frozen
class Rights:
    """Compares rights; `table` has all commands."""

    table: Iterable[Command]

    def check_account(self, connection: Connection, principal: Principal, account: Account) -> None:
        """Check that the caller can do what the users of an account can.

        Raises: ApiError 401 when they can do more.
        """
        # a key with a scope cannot get its user's own password or keys either
        if account.id != principal.account.id or principal.key_rules is not None:
            self.check_role(connection, principal, AccountType(account.type), account.role_id)

    @staticmethod
    def check_may_change_roles(principal: Principal) -> None:
        """Check that a caller cannot give the own role more rules.

        Raises: ApiError 401 when the caller's role restricts anything.
        """
        if principal.is_restricted:
            raise unauthorized("only administrators whose role restricts nothing can change roles")

    def check_role(
        self, connection: Connection, principal: Principal, account_type: AccountType, role_id: int | None
    ) -> None:
        """Check that the caller can do what a role of accounts of this type permits.

        Raises: ApiError 401 when it permits more.
        """
        if not principal.is_restricted:  # all that its type permits, and it reaches no type that permits more
            return
        rules = roles.rules_of(connection, role_id)
        for command in self.table:
            other_can = account_type in command.roles and (rules is None or rules.permit(command.name))
            if other_can and not principal.can_call(command.name, command.roles):
                raise unauthorized(
                    f"role or API key of {principal.user.username} does not permit {command.name}, which the"
                    " role of the other account permits"
                )
