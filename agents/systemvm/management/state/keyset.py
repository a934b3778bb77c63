# SPDX-License-Identifier: Apache-2.0
"""Where a page of a list begins: by the values of a row before it instead of the number of those rows.

With OFFSET, SQLite reads all rows before a page; with a condition on an index it begins there (keyset
pagination, or the seek method).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.sql import operators, visitors


@frozen(eq=False)
class Keyset:
    """What the rows of a list are ordered by, all of it never NULL: no two rows have the same values."""

    keys: tuple[sa.ColumnElement[Any], ...]
    descending: tuple[bool, ...]

    @classmethod
    def of(cls, order_by: Sequence[sa.ColumnElement[Any]]) -> Keyset | None:
        """Return the keyset of an order; None when a part of it can be NULL, which compares as nothing."""
        keys = tuple(_without_direction(each) for each in order_by)
        if not all(map(_is_never_null, keys)):
            return None
        return cls(keys, tuple(_is_descending(each) for each in order_by))

    def names(self) -> list[str]:
        """Return the names of the bound parameters of `since`, one for each key."""
        return [f"since_{number}" for number in range(len(self.keys))]

    def since(self) -> sa.ColumnElement[bool]:
        """Return the condition that a row has the values of the bound parameters, or follows such a row."""
        bound = [
            sa.bindparam(name, type_=key.type) for name, key in zip(self.names(), self.keys, strict=True)
        ]
        reached: sa.ColumnElement[bool] = sa.true()
        for key, value, descending in reversed(list(zip(self.keys, bound, self.descending, strict=True))):
            reached = sa.or_(key < value if descending else key > value, sa.and_(key == value, reached))
        # the rest says this, too, but not so that SQLite uses an index for it
        first = self.keys[0] <= bound[0] if self.descending[0] else self.keys[0] >= bound[0]
        return sa.and_(first, reached)

    def topics(self) -> set[str]:
        """Return the topics (see `state.topics`) that the values depend on, besides which rows there are."""
        return {f"{column.table.name}.{column.name}" for key in self.keys for column in _columns(key)}


def _columns(element: sa.ColumnElement[Any]) -> Iterator[sa.Column[Any]]:
    return (each for each in visitors.iterate(element) if isinstance(each, sa.Column))


def _is_descending(element: sa.ColumnElement[Any]) -> bool:
    return isinstance(element, sa.UnaryExpression) and element.modifier is operators.desc_op


def _without_direction(element: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return element.element if isinstance(element, sa.UnaryExpression) and element.modifier else element


def _is_never_null(element: sa.ColumnElement[Any]) -> bool:
    match element:
        case sa.Column():
            return not element.nullable
        case sa.TypeCoerce():
            return _is_never_null(element.clause)
        case sa.BinaryExpression():
            return element.operator is operators.is_distinct_from
        case sa.Function():
            return element.name == "lower" and all(map(_is_never_null, element.clauses))
    return False
