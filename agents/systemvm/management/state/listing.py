# SPDX-License-Identifier: Apache-2.0
"""Pages of lists, selected, ordered and counted in SQL."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from attrs import Factory, field, frozen

from systemvm.management.state.changes import keep

#: Listings that a repository keeps, because their queries take longer to make than a page to read.
KEPT_LISTINGS = 200


@frozen
class Order:
    """The key that a list's rows are ordered by."""

    by: str
    descending: bool = False


def ordered(
    columns: Mapping[str, sa.ColumnElement[Any]],
    order: Order | None,
    *otherwise: sa.ColumnElement[Any],
) -> tuple[sa.ColumnElement[Any], ...]:
    """Return what a list is ordered by: the column of a key, and the first of `otherwise` the same way.

    That one is unique, so that pages neither repeat nor omit rows whose keys are equal. An index on both is
    read in either direction.
    """
    if order is None:
        return otherwise
    first, *others = otherwise
    keys = dict.fromkeys((columns[order.by], first))  # the unique column can be the key itself
    return (*(key.desc() if order.descending else key for key in keys), *others)


@frozen
class Listing:
    """What a list contains, in which order, and what its length depends on."""

    key: Hashable  # equal for equal lists
    rows: sa.Select[Any]  # without conditions and order; made once, because that takes a millisecond
    where: Sequence[sa.ColumnElement[bool]]
    order_by: Sequence[sa.ColumnElement[Any]]
    topics: tuple[str, ...]  # of `state.changes`: only a change in these can change the length
    #: The number of rows of a table that only grows: what was counted once is not counted again.
    growing_id: sa.Column[int] | None = None

    _ordered: sa.Select[Any] = field(
        init=False,
        default=Factory(lambda self: self.rows.where(*self.where).order_by(*self.order_by), takes_self=True),
    )

    #: Made once, too: its key in SQLAlchemy's cache takes longer to make than a page to read.
    _paged: sa.Select[Any] = field(
        init=False,
        default=Factory(
            lambda self: self._ordered.limit(sa.bindparam("limit")).offset(sa.bindparam("offset")),
            takes_self=True,
        ),
    )

    def page(self, connection: sa.Connection, window: slice) -> Sequence[sa.RowMapping]:
        if window.stop is None:
            return connection.execute(self._ordered).mappings().all()
        start = window.start or 0
        values = {"limit": window.stop - start, "offset": start}
        return connection.execute(self._paged, values).mappings().all()

    def read(self, connection: sa.Connection, window: slice) -> list[tuple[Any, ...]]:
        """Return the rows of a page as tuples, for `SameRows`."""
        if window.stop is None:
            return [tuple(row) for row in connection.execute(self._ordered)]
        start = window.start or 0
        values = {"limit": window.stop - start, "offset": start}
        return [tuple(row) for row in connection.execute(self._paged, values)]

    def count(self, connection: sa.Connection) -> int:
        """Return how many rows there are. They are counted again only when that can have changed."""
        if self.growing_id is None:
            return keep(connection, self.key, self.topics, self._count)
        number = self.growing_id
        last_id = connection.scalar(sa.select(sa.func.max(number))) or 0
        until, count = keep(
            connection,
            self.key,
            self.topics,
            lambda reader: (last_id, self._count(reader, number <= last_id)),
        )
        return count if last_id == until else count + self._count(connection, number > until)

    def _count(self, connection: sa.Connection, *where: sa.ColumnElement[bool]) -> int:
        query = self.rows.where(*self.where, *where).with_only_columns(sa.func.count())
        return connection.scalar(query) or 0


def that_fit(
    *,
    exact: Iterable[tuple[sa.ColumnElement[Any], Any]] = (),
    texts: Iterable[tuple[sa.ColumnElement[Any], str | None]] = (),
    sets: Iterable[tuple[sa.ColumnElement[Any], Collection[Any] | None]] = (),
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of a filter: None is none; `texts` are equal whatever their case."""
    return [
        *(column == value for column, value in exact if value is not None),
        *(equals(column, text) for column, text in texts if text is not None),
        *(column.in_(values) for column, values in sets if values is not None),
    ]


def as_text(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Return a column of an enum as the text that is stored: a filter can name what is no member."""
    return sa.type_coerce(column, sa.String)


def contains(column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column contains a text, whatever its case."""
    return _lowered(column, text).contains(text.lower(), autoescape=True)


def equals(column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column is a text, whatever its case."""
    return _lowered(column, text) == text.lower()


def by_name(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Return what a list that is ordered by a name is ordered by: the name, whatever its case."""
    return sa.func.lower(column)


def _lowered(column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[str]:
    # SQLite's own `lower` changes ASCII letters only, but is ten times as fast as a function in Python
    return sa.func.lower(column) if text.isascii() else sa.func.unicode_lower(column)
