# SPDX-License-Identifier: Apache-2.0
"""Pages of lists, selected, ordered and counted in SQL."""

from __future__ import annotations

import functools
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from attrs import Factory, field, frozen

from systemvm.management.state.kept_results import keep
from systemvm.management.state.keyset import Keyset

#: Listings that a repository keeps, because their queries take longer to make than a page to read.
KEPT_LISTINGS = 200
#: From every so manieth row on, a list can be read without the rows before it.
ROWS_BETWEEN_STARTS = 200


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
class _Seek:
    """How a list is read from one of its starts on."""

    key: tuple[Hashable, ...]
    topics: tuple[str, ...]
    names: Sequence[str]  # of the parameters that say where it starts
    starts: sa.Select[Any]
    later_starts: sa.Select[Any]
    rows: sa.Select[Any]


@frozen
class Listing:
    """What a list contains, in which order, and what its length depends on."""

    key: Hashable  # equal for equal lists
    rows: sa.Select[Any]  # without conditions and order; made once, because that takes a millisecond
    where: Sequence[sa.ColumnElement[bool]]
    order_by: Sequence[sa.ColumnElement[Any]]
    topics: tuple[str, ...]  # of `state.topics`: only a change in these can change the length
    #: The number of rows of a table that only grows: what was counted once is not counted again.
    growing_id: sa.Column[int] | None = None

    _ordered: sa.Select[Any] = field(
        init=False,
        default=Factory(lambda self: self.rows.where(*self.where).order_by(*self.order_by), takes_self=True),
    )

    #: Made once, too: its key in SQLAlchemy's cache takes longer to make than a page to read.
    _paged: sa.Select[Any] = field(
        init=False, default=Factory(lambda self: _windowed(self._ordered), takes_self=True)
    )

    def page(self, connection: sa.Connection, window: slice) -> Sequence[sa.RowMapping]:
        return self._execute(connection, window).mappings().all()

    def read(self, connection: sa.Connection, window: slice) -> list[tuple[Any, ...]]:
        """Return the rows of a page as tuples, for `SameRows`."""
        return [tuple(row) for row in self._execute(connection, window)]

    def _execute(self, connection: sa.Connection, window: slice) -> sa.CursorResult[Any]:
        if window.stop is None:
            return connection.execute(self._ordered)
        first = window.start or 0
        limit = window.stop - first
        number, offset = divmod(first, ROWS_BETWEEN_STARTS)
        if number == 0 or self._seek is None:
            return connection.execute(self._paged, {"limit": limit, "offset": first})
        start = self._start(connection, self._seek, number)
        if start is None:  # the list ends before
            return connection.execute(self._paged, {"limit": 0, "offset": 0})
        return connection.execute(self._seek.rows, {"limit": limit, "offset": offset, **start})

    @functools.cached_property
    def _seek(self) -> _Seek | None:
        keyset = Keyset.of(self.order_by)
        if keyset is None:
            return None
        inserted = () if self.growing_id is None else (f"{self.growing_id.table.name}:inserted",)
        return _Seek(
            key=("start", self.key, *map(str, self.order_by)),
            topics=(*self.topics, *inserted, *sorted(keyset.topics())),
            names=keyset.names(),
            starts=_windowed(self._ordered.with_only_columns(*keyset.keys)),
            later_starts=_windowed(self._ordered.where(keyset.since()).with_only_columns(*keyset.keys)),
            rows=_windowed(self._ordered.where(keyset.since())),
        )

    def _start(self, connection: sa.Connection, seek: _Seek, number: int) -> dict[str, Any] | None:
        """Return the values of the row that this start is at, as parameters; None when there is none.

        Each is looked for from an earlier one on, whose number lacks its lowest bit: what they need together
        is found in few steps, and no row is read twice for one page.
        """

        def find(reader: sa.Connection) -> dict[str, Any] | None:
            earlier = number & (number - 1)
            window: dict[str, Any] = {"limit": 1, "offset": (number - earlier) * ROWS_BETWEEN_STARTS}
            query = seek.starts
            if earlier:
                since = self._start(reader, seek, earlier)
                if since is None:
                    return None
                query, window = seek.later_starts, {**window, **since}
            row = reader.execute(query, window).first()
            return dict(zip(seek.names, row, strict=True)) if row else None

        return keep(connection, (*seek.key, number), seek.topics, find)

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


def _windowed(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.limit(sa.bindparam("limit")).offset(sa.bindparam("offset"))


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


def is_present(
    table: sa.Table, uuid: sa.ColumnElement[str], *conditions: sa.ColumnElement[bool]
) -> sa.ColumnElement[bool]:
    """Return the condition that a table has an object with this UUID, which is not removed."""
    return sa.exists().where(table.c.uuid == uuid, table.c.removed.is_(None), *conditions)


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
