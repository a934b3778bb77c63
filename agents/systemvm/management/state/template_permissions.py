# SPDX-License-Identifier: Apache-2.0
"""CloudStack's launch permissions: which accounts use a template of another one that is not public."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from systemvm.management.state import accounts, schema
from systemvm.management.state.accounts import Account

_p = schema.template_permissions.c
_table = schema.template_permissions


def accounts_of(connection: sa.Connection, template_id: int) -> list[Account]:
    """Return the accounts that a template is shared with, in the order of the permissions."""
    query = sa.select(_p.account_id).where(_p.template_id == template_id).order_by(_p.id)
    return [accounts.account_by_id(connection, each) for each in connection.scalars(query)]


def is_shared(connection: sa.Connection, template_id: int, account_id: int) -> bool:
    query = sa.select(_p.id).where(_p.template_id == template_id, _p.account_id == account_id)
    return connection.execute(query).first() is not None


def add(connection: sa.Connection, template_id: int, account_ids: Collection[int]) -> None:
    """Share a template; an account that has it already is no error."""
    for account_id in account_ids:
        if not is_shared(connection, template_id, account_id):
            connection.execute(_table.insert().values(template_id=template_id, account_id=account_id))


def remove(connection: sa.Connection, template_id: int, account_ids: Collection[int]) -> None:
    connection.execute(
        _table.delete().where(_p.template_id == template_id, _p.account_id.in_(list(account_ids)))
    )


def remove_all(connection: sa.Connection, template_id: int) -> None:
    connection.execute(_table.delete().where(_p.template_id == template_id))
