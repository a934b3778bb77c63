# SPDX-License-Identifier: Apache-2.0
"""Rows as frozen values: what every repository does with its table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar, cast

import attrs
import sqlalchemy as sa

from systemvm.service.errors import FailureCode, SystemVmError

#: SQLite limits the number of parameters of a query.
AT_ONCE = 500

R = TypeVar("R", bound=attrs.AttrsInstance)


class NotFoundError(SystemVmError, LookupError):
    """There is no such row."""

    code = FailureCode.NOT_FOUND


def one_of(name: str) -> sa.BindParameter[Any]:
    """Return the bound parameter of `column.in_(one_of(name))`, for as many values as a call has."""
    return sa.bindparam(name, expanding=True)


class PreparedRows(Generic[R]):
    """A query of rows whose conditions contain bound parameters.

    It is made once: to make a query, and the key by which SQLAlchemy finds what it compiled, takes longer
    than to read a page by an index.
    """

    def __init__(
        self, rows: Rows[R], where: Sequence[sa.ColumnElement[bool]], order_by: Sequence[Any]
    ) -> None:
        self._row_class = rows.row_class
        self._query = sa.select(*rows.columns).where(*where).order_by(*order_by)

    def all(self, connection: sa.Connection, **values: Any) -> list[R]:
        return [self._row_class(*row) for row in connection.execute(self._query, values)]


class Rows(Generic[R]):
    """A table and the attrs class of its rows, whose attributes have the names of their columns."""

    def __init__(self, table: sa.Table, row_class: type[R], label: str) -> None:
        self.table = table
        self.row_class = row_class
        self.label = label
        self.names = [field.name for field in attrs.fields(row_class)]
        self.columns = [table.c[name] for name in self.names]
        # Lists make thousands of rows: by position, which takes half the time of names.
        self._values_of = itemgetter(*self.names)
        self._labelled_values_of: dict[str, Callable[[sa.RowMapping], tuple[Any, ...]]] = {}
        self._by_ids = self.prepared(table.c.id.in_(one_of("ids")))
        self._by_id = self.prepared(table.c.id == sa.bindparam("number"))

    def value(self, row: sa.RowMapping) -> R:
        return self.row_class(*self._values_of(row))

    def labelled(self, prefix: str) -> list[sa.Label[Any]]:
        """Return the columns with a prefix to their names, for a query over several tables."""
        return [self.table.c[name].label(f"{prefix}_{name}") for name in self.names]

    def from_labelled(self, row: sa.RowMapping, prefix: str) -> R:
        values_of = self._labelled_values_of.get(prefix)
        if values_of is None:
            values_of = itemgetter(*(f"{prefix}_{name}" for name in self.names))
            self._labelled_values_of[prefix] = values_of
        return self.row_class(*values_of(row))

    def all(
        self,
        connection: sa.Connection,
        *where: sa.ColumnElement[bool],
        order_by: Sequence[sa.ColumnElement[Any]] = (),
        limit: int | None = None,
    ) -> list[R]:
        """Return the rows that match all conditions, the oldest first without `order_by`."""
        query = sa.select(*self.columns).where(*where)
        query = query.order_by(*(order_by or [self.table.c.id])).limit(limit)
        return [self.row_class(*row) for row in connection.execute(query)]

    def prepared(
        self, *where: sa.ColumnElement[bool], order_by: Sequence[sa.ColumnElement[Any]] = ()
    ) -> PreparedRows[R]:
        """Return a query that is made once; the conditions' values come with each call."""
        return PreparedRows(self, where, order_by or [self.table.c.id])

    def one(self, connection: sa.Connection, *where: sa.ColumnElement[bool]) -> R | None:
        found = self.all(connection, *where, limit=1)
        return found[0] if found else None

    def by_ids(self, connection: sa.Connection, numbers: Iterable[int | None]) -> dict[int, R]:
        """Return the rows with these numbers, removed or not, by their numbers."""
        wanted = sorted({number for number in numbers if number is not None})
        found: dict[int, R] = {}
        for begin in range(0, len(wanted), AT_ONCE):
            some = self._by_ids.all(connection, ids=wanted[begin : begin + AT_ONCE])
            found.update((cast("Any", row).id, row) for row in some)
        return found

    def by_id(self, connection: sa.Connection, row_id: int) -> R:
        """Return the row with a number, removed or not.

        Raises: NotFoundError when there never was one.
        """
        found = self._by_id.all(connection, number=row_id)
        if not found:
            raise NotFoundError(f"there is no {self.label} with the number {row_id}")
        return found[0]

    @functools.cached_property
    def _present_by_uuid(self) -> PreparedRows[R]:
        # not every table has these columns
        return self.prepared(self.table.c.uuid == sa.bindparam("uuid"), self.table.c.removed.is_(None))

    def by_uuid(self, connection: sa.Connection, uuid: str) -> R:
        """Return the row with a UUID.

        Raises: NotFoundError when there is none, or it is removed.
        """
        found = self._present_by_uuid.all(connection, uuid=uuid)
        if not found:
            raise NotFoundError(f"there is no {self.label} with the id {uuid}", value=uuid)
        return found[0]

    def find(self, connection: sa.Connection, uuid: str) -> R | None:
        """Return the row with a UUID, also a removed one; None when there is none."""
        return self.one(connection, self.table.c.uuid == uuid)

    def insert(self, connection: sa.Connection, /, **values: Any) -> R:
        result = connection.execute(self.table.insert().values(**values))
        key = cast("sa.Row[Any]", result.inserted_primary_key)
        return self.by_id(connection, key[0])

    def update(self, connection: sa.Connection, /, row_id: int, **changes: Any) -> R:
        connection.execute(self.table.update().where(self.table.c.id == row_id).values(**changes))
        return self.by_id(connection, row_id)

    def update_where(
        self, connection: sa.Connection, /, *where: sa.ColumnElement[bool], **changes: Any
    ) -> int:
        """Update the rows that match; return how many did, to claim something exactly once."""
        return connection.execute(self.table.update().where(*where).values(**changes)).rowcount
