# SPDX-License-Identifier: Apache-2.0
"""Which tables have changed: what was read from unchanged tables can be kept instead of read again."""

from __future__ import annotations

import functools
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from attrs import frozen

T = TypeVar("T")

#: Results that are kept at most; the one that was not used for the longest time is dropped first.
MAX_KEPT = 1000

_WRITE = re.compile(r"\s*(INSERT\s+INTO|DELETE\s+FROM|UPDATE)\s+(\w+)\b")
_ASSIGNMENTS = re.compile(r"\sSET\s+(.*?)(?:\sWHERE\b|$)", re.S)
_WORD = re.compile(r"\w+")
_SET_COLUMN = re.compile(r"(?:^|,\s*)(\w+)\s*=")
_READS = re.compile(r"\s*(?:SELECT|WITH|BEGIN|PRAGMA|SAVEPOINT|RELEASE|ROLLBACK|COMMIT)\b", re.I)

#: Where the tables are noted that a task reads, besides its own writes; see `Changes.unchanged_since`.
reads_of_task: ContextVar[set[str] | None] = ContextVar("reads_of_task", default=None)

#: The topic that a statement of unknown kind changes, and that every reader depends on.
EVERYTHING = "*"


def columns(table: sa.Table, *names: str) -> tuple[str, ...]:
    """Return the topics of a reader that depends on these columns only, and on which rows there are."""
    return (
        f"{table.name}:inserted",
        f"{table.name}:deleted",
        *(f"{table.name}.{table.c[name].name}" for name in names),
    )


def any_of(*tables: sa.Table) -> tuple[str, ...]:
    """Return the topics of a reader that depends on everything in these tables."""
    return tuple(table.name for table in tables)


@functools.lru_cache(4096)
def topics_of(statement: str) -> tuple[str, ...]:
    """Return what a statement changes: its table, and either its rows or the columns that it sets."""
    if _READS.match(statement):
        return ()
    found = _WRITE.match(statement)
    if found is None:
        return (EVERYTHING,)
    verb, table = found.groups()
    if verb.startswith("INSERT"):
        return (table, f"{table}:inserted")
    if verb.startswith("DELETE"):
        return (table, f"{table}:deleted")
    assignments = _ASSIGNMENTS.search(statement)
    names = _SET_COLUMN.findall(assignments[1]) if assignments else ()
    return (table, *(f"{table}.{name}" for name in names)) if names else (EVERYTHING,)


@functools.lru_cache(4096)
def tables_read_by(statement: str, tables: frozenset[str]) -> frozenset[str]:
    """Return which of the tables a query can read, as topics: those whose names are words of it."""
    return tables.intersection(_WORD.findall(statement))


@frozen
class Kept(Generic[T]):
    """A result, and the last commit before it was read."""

    result: T
    commit: int


class Changes:
    """Numbers the commits, notes the last one that changed each topic, and keeps results that still hold.

    `read_version` returns a number that each commit changes, of this process or of another, such as the
    sqlite3 shell. A commit of another changes everything.
    """

    def __init__(self, read_version: Callable[[], int] = int) -> None:
        self._lock = threading.Lock()
        self._read_version = read_version
        self._version = read_version()
        self._commit = 0
        self._last: dict[str, int] = {}
        self._kept: OrderedDict[Hashable, Kept[Any]] = OrderedDict()
        self._listeners: list[Callable[[frozenset[str]], None]] = []

    def listen(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Have `listener` called with the topics of each commit of this process, on the writer's thread."""
        self._listeners.append(listener)

    def committed(self, topics: Iterable[str]) -> None:
        """Note a transaction that changed these topics. Call it after its commit."""
        with self._lock:
            self._version = self._read_version()
            self._note(topics)
        for listener in self._listeners:
            listener(frozenset(topics))

    @property
    def commit(self) -> int:
        """The last commit. Take it before a read: another one meanwhile makes the result outdated."""
        return self._commit

    def unchanged_since(self, commit: int, topics: Iterable[str]) -> bool:
        """Return whether no later commit changed one of these topics."""
        with self._lock:
            return self._is_unchanged(commit, topics)

    def _note(self, topics: Iterable[str]) -> None:
        self._commit += 1
        self._last.update(dict.fromkeys(topics, self._commit))

    def _is_unchanged(self, commit: int, topics: Iterable[str]) -> bool:
        version = self._read_version()
        if version != self._version:  # or a commit of this process is not noted yet, which does no harm
            self._version = version
            self._note((EVERYTHING,))
        last = self._last.get
        return last(EVERYTHING, 0) <= commit and all(last(topic, 0) <= commit for topic in topics)

    def find(self, key: Hashable, topics: tuple[str, ...]) -> Kept[Any] | None:
        """Return what is kept for this key if it still holds."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or not self._is_unchanged(kept.commit, topics):
                return None
            self._kept.move_to_end(key)
            return kept

    def keep(self, key: Hashable, topics: tuple[str, ...], commit: int, compute: Callable[[], T]) -> T:
        """Return what `compute` returned for this key, unless a topic has changed since; else call it.

        `commit` is the last one before the transaction that `compute` reads in. That transaction still sees
        what it saw at its first query: with a later commit, what is kept would be outdated for ever.
        """
        kept: Kept[T] | None = self.find(key, topics)
        if kept is not None:
            return kept.result
        result = compute()
        with self._lock:
            self._kept[key] = Kept(result, commit)
            self._kept.move_to_end(key)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return result


def keep(
    connection: sa.Connection, key: Hashable, topics: tuple[str, ...], compute: Callable[[sa.Connection], T]
) -> T:
    """Do as `Changes.keep` on a reader's connection; a writer also sees what it has not committed."""
    options = connection.get_execution_options()
    changes: Changes | None = options.get("kept_for_readers")
    if changes is None:
        return compute(connection)
    noted: set[str] | None = options.get("read_topics")
    if noted is not None:
        noted.update(topics)
    return changes.keep(key, topics, options["commit_before"], lambda: compute(connection))


def note_statements(engine: sa.Engine, tables: frozenset[str]) -> None:
    """Add what each statement changes and reads to the sets in its connection's execution options."""

    @sa.event.listens_for(engine, "after_cursor_execute")
    def executed(
        connection: sa.Connection, _cursor: Any, statement: str, _given: Any, _context: Any, _many: bool
    ) -> None:
        options = connection.get_execution_options()
        changed: set[str] | None = options.get("changed_topics")
        if changed is not None:
            changed.update(topics_of(statement))
        noted: set[str] | None = options.get("read_topics")
        if noted is not None:
            noted.update(tables_read_by(statement, tables))
