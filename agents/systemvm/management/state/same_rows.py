# SPDX-License-Identifier: Apache-2.0
"""Rows that are the same object as long as they are unchanged in the database.

Most rows of a list are as they were when it was read before. To compare what the driver returns takes a tenth
of the time of making values of it, and what was made of a row can be used again while it is the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from systemvm.management.state.rows import Rows

R = TypeVar("R", bound=attrs.AttrsInstance)

#: More are all forgotten: to note which of them were used last would take longer than to make them again.
MAX_ROWS = 10_000

_DIALECT = sqlite.dialect()


class SameRows(Generic[R]):
    """The rows of a table that were read last. Values that are shared must not be changed."""

    def __init__(self, rows: Rows[R], most: int = MAX_ROWS) -> None:
        #: What a query selects whose rows `value` takes: as the driver returns it.
        self.columns: list[sa.Label[Any]] = [
            sa.type_coerce(each, sa.types.NullType()).label(each.name) for each in rows.columns
        ]
        self.table = rows.table
        self._row_class = rows.row_class
        readers = [(number, _reader(each.type)) for number, each in enumerate(rows.columns)]
        self._readers = [(number, reader) for number, reader in readers if reader is not None]
        self._number = rows.names.index("id")
        self._most = most
        self._kept: dict[int, tuple[tuple[Any, ...], R]] = {}

    def value(self, read: tuple[Any, ...]) -> R:
        """Return a row as a frozen value: the same object as before when nothing of it has changed."""
        number = read[self._number]
        kept = self._kept.get(number)
        if kept is not None and kept[0] == read:
            return kept[1]
        values = list(read)
        for position, reader in self._readers:
            values[position] = reader(values[position])
        made = self._row_class(*values)
        if len(self._kept) >= self._most:
            self._kept.clear()
        self._kept[number] = read, made
        return made

    def prepared(self, *where: sa.ColumnElement[bool], order_by: Sequence[Any]) -> PreparedSameRows[R]:
        """Return a query that is made once; the conditions' values come with each call."""
        return PreparedSameRows(self, sa.select(*self.columns).where(*where).order_by(*order_by))


class PreparedSameRows(Generic[R]):
    """A query of rows whose conditions contain bound parameters."""

    def __init__(self, rows: SameRows[R], query: sa.Select[Any]) -> None:
        self._rows = rows
        self._query = query

    def all(self, connection: sa.Connection, **values: Any) -> list[R]:
        return [self._rows.value(tuple(row)) for row in connection.execute(self._query, values)]


def _reader(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return what makes a column's value of what the driver returns; None for nothing."""
    return kind.dialect_impl(_DIALECT).result_processor(_DIALECT, None)
