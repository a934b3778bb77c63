# SPDX-License-Identifier: Apache-2.0
"""Which tables have changed: what was read from unchanged tables can be kept instead of read again."""

from __future__ import annotations

import functools
import re
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state.wal_commits import WRAP

T = TypeVar("T")

#: Results that are kept at most, where a page counts as its rows, and once more for their tags; the one that
#: was not used for the longest time is dropped first.
MAX_KEPT = 20_000
#: A larger result is not kept: it would take the place of too many others.
MAX_SIZE = MAX_KEPT // 20

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


def _one(_result: object) -> int:
    return 1


@frozen
class Kept(Generic[T]):
    """A result, and the last commit before it was read."""

    result: T
    commit: int
    size: int = 1


class Changes:
    """Numbers the commits, notes the last one that changed each topic, and keeps results that still hold.

    `count_commits` returns how many were made, by this process or another, such as the sqlite3 shell. One
    of another changes everything.
    """

    def __init__(self, count_commits: Callable[[], int] = int) -> None:
        self._lock = threading.Lock()
        self._count_commits = count_commits
        self._counted = count_commits()
        #: Held while a commit of this process is made and noted.
        self._committing = threading.Lock()
        #: The topics of the own commit that is made now, which is counted or not yet.
        self._under_way: Collection[str] | None = None
        self._commit = 0
        self._last: dict[str, int] = {}
        self._kept: OrderedDict[Hashable, Kept[Any]] = OrderedDict()
        self._size = 0
        self._listeners: list[Callable[[frozenset[str]], None]] = []

    def listen(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Have `listener` called with the topics of each commit of this process, on the writer's thread."""
        self._listeners.append(listener)

    @contextmanager
    def committing(self, topics: Collection[str], data_version: Callable[[], int]) -> Iterator[None]:
        """Commit a transaction that changed these topics within this, while it has the write lock.

        Without this, an own commit could not be told from one of another process until it is noted, and would
        change everything. SQLite counts no commit of a transaction that left all pages as they were. So
        `data_version` returns SQLite's number that the commits of all other connections change, as the
        committing connection sees it. One of them beside a commit that is not counted is noticed when that
        one is noted, and not before.
        """
        with self._committing:
            before = data_version()
            with self._lock:
                self._notice_others()
                self._under_way = topics
            try:
                yield
            except BaseException:
                with self._lock:
                    self._under_way = None
                raise
            count = self._count_commits()  # before the version: others that it contains change that
            try:
                is_alone = data_version() == before
            except sqlite3.Error:
                is_alone = False  # it is committed, whatever cannot be read afterwards
            with self._lock:
                self._under_way = None
                self._counted = count
                self._note(topics if is_alone else (*topics, EVERYTHING))
                self._notice_others()
        self._tell(topics)

    def committed(self, topics: Iterable[str]) -> None:
        """Note that these topics were changed."""
        with self._lock:
            self._note(topics)
        self._tell(topics)

    def _tell(self, topics: Iterable[str]) -> None:
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

    def _notice_others(self) -> None:
        """Note the commits of others, which are those that are too many."""
        own, ahead = int(self._under_way is not None), (self._count_commits() - self._counted) % WRAP
        if ahead > own:
            self._counted = (self._counted + ahead - own) % WRAP
            self._note((EVERYTHING,))

    def _is_unchanged(self, commit: int, topics: Iterable[str]) -> bool:
        self._notice_others()
        last = self._last.get
        if last(EVERYTHING, 0) > commit:
            return False
        if own := self._under_way:
            topics = tuple(topics)
            if EVERYTHING in own or any(topic in own for topic in topics):
                return False  # its rows can be visible already
        return all(last(topic, 0) <= commit for topic in topics)

    def find(self, key: Hashable, topics: tuple[str, ...]) -> Kept[Any] | None:
        """Return what is kept for this key if it still holds."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or not self._is_unchanged(kept.commit, topics):
                return None
            self._kept.move_to_end(key)
            return kept

    def keep(
        self,
        key: Hashable,
        topics: tuple[str, ...],
        commit: int,
        compute: Callable[[], T],
        size_of: Callable[[T], int] = _one,
    ) -> T:
        """Return what `compute` returned for this key, unless a topic has changed since; else call it.

        `size_of` returns as how many results it counts; an empty one counts as one.
        `commit` is the last one before the transaction that `compute` reads in. That transaction still sees
        what it saw at its first query: with a later commit, what is kept would be outdated for ever.
        """
        kept: Kept[T] | None = self.find(key, topics)
        if kept is not None:
            return kept.result
        result = compute()
        size = max(1, size_of(result))
        with self._lock:
            outdated = self._kept.pop(key, None)
            self._size -= outdated.size if outdated else 0
            if size > MAX_SIZE:
                return result
            self._kept[key] = Kept(result, commit, size)
            self._size += size
            while self._size > MAX_KEPT:
                _, dropped = self._kept.popitem(last=False)
                self._size -= dropped.size
        return result


def keep(
    connection: sa.Connection,
    key: Hashable,
    topics: tuple[str, ...],
    compute: Callable[[sa.Connection], T],
    size_of: Callable[[T], int] = _one,
) -> T:
    """Do as `Changes.keep` on a reader's connection; a writer also sees what it has not committed."""
    options = connection.get_execution_options()
    changes: Changes | None = options.get("kept_for_readers")
    if changes is None:
        return compute(connection)
    noted: set[str] | None = options.get("read_topics")
    if noted is not None:
        noted.update(topics)
    return changes.keep(key, topics, options["commit_before"], lambda: compute(connection), size_of)


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
