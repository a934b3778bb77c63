# SPDX-License-Identifier: Apache-2.0
"""The limits that administrators have set for accounts and domains; -1 is none."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from systemvm.management.state import schema
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.rows import AT_ONCE

_table = schema.resource_limits
_c = _table.c


def of_accounts(connection: sa.Connection, account_ids: Iterable[int]) -> dict[tuple[int, ResourceType], int]:
    """Return the limits of these accounts' own, by account and kind."""
    return _of(connection, _c.account_id, account_ids)


def of_domains(connection: sa.Connection, domain_ids: Iterable[int]) -> dict[tuple[int, ResourceType], int]:
    """Return the limits of these domains, by domain and kind."""
    return _of(connection, _c.domain_id, domain_ids)


def set_of_account(connection: sa.Connection, account_id: int, kind: ResourceType, most: int | None) -> None:
    """Set the limit of an account; None is the default again."""
    _set(connection, {"account_id": account_id}, kind, most)


def set_of_domain(connection: sa.Connection, domain_id: int, kind: ResourceType, most: int | None) -> None:
    """Set the limit of a domain; None is the default again."""
    _set(connection, {"domain_id": domain_id}, kind, most)


def _of(
    connection: sa.Connection, owner: sa.Column[int], numbers: Iterable[int]
) -> dict[tuple[int, ResourceType], int]:
    found: dict[tuple[int, ResourceType], int] = {}
    wanted = sorted(set(numbers))
    for begin in range(0, len(wanted), AT_ONCE):
        query = sa.select(owner, _c.type, _c.most).where(owner.in_(wanted[begin : begin + AT_ONCE]))
        found.update(((number, ResourceType(kind)), most) for number, kind, most in connection.execute(query))
    return found


def _set(connection: sa.Connection, owner: dict[str, int], kind: ResourceType, most: int | None) -> None:
    same = [_c[name] == number for name, number in owner.items()]
    connection.execute(_table.delete().where(*same, _c.type == int(kind)))
    if most is not None:
        connection.execute(_table.insert().values(type=int(kind), most=most, **owner))
