# SPDX-License-Identifier: Apache-2.0
"""Which tables have changed: what was read from unchanged tables can be kept instead of read again."""

from __future__ import annotations

import functools
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar, cast

import sqlalchemy as sa

T = TypeVar("T")

#: Results that are kept at most; the one that was not used for the longest time is dropped first.
MAX_KEPT = 1000

_WRITE = re.compile(r"\s*(INSERT\s+INTO|DELETE\s+FROM|UPDATE)\s+(\w+)\b")
_ASSIGNMENTS = re.compile(r"\sSET\s+(.*?)(?:\sWHERE\b|$)", re.S)
_SET_COLUMN = re.compile(r"(?:^|,\s*)(\w+)\s*=")
_READS = re.compile(r"\s*(?:SELECT|WITH|BEGIN|PRAGMA|SAVEPOINT|RELEASE|ROLLBACK|COMMIT)\b", re.I)

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


class Changes:
    """Counts the committed changes of each topic, and keeps results until one of their topics changes.

    Only this process writes to the database; `forget` is for the case that another one did.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._kept: OrderedDict[Hashable, tuple[tuple[int, ...], Any]] = OrderedDict()

    def committed(self, topics: Iterable[str]) -> None:
        """Count a transaction that changed these topics. Call it after its commit."""
        with self._lock:
            for topic in topics:
                self._counts[topic] = self._counts.get(topic, 0) + 1

    def forget(self) -> None:
        self.committed((EVERYTHING,))

    def counts(self, topics: Iterable[str]) -> tuple[int, ...]:
        with self._lock:
            return tuple(self._counts.get(topic, 0) for topic in (EVERYTHING, *topics))

    def keep(self, key: Hashable, topics: tuple[str, ...], compute: Callable[[], T]) -> T:
        """Return what `compute` returned for this key, unless a topic has changed since; else call it."""
        counts = self.counts(topics)  # before the read: a commit meanwhile makes the result outdated
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0] == counts:
                self._kept.move_to_end(key)
                return cast("T", kept[1])
        result = compute()
        with self._lock:
            self._kept[key] = (counts, result)
            self._kept.move_to_end(key)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return result


def keep(
    connection: sa.Connection, key: Hashable, topics: tuple[str, ...], compute: Callable[[sa.Connection], T]
) -> T:
    """Do as `Changes.keep` on a reader's connection; a writer also sees what it has not committed."""
    changes: Changes | None = connection.get_execution_options().get("kept_for_readers")
    if changes is None:
        return compute(connection)
    return changes.keep(key, topics, lambda: compute(connection))


def collect_topics(engine: sa.Engine) -> None:
    """Add what each statement changes to the execution option `changed_topics` of its connection."""

    @sa.event.listens_for(engine, "after_cursor_execute")
    def executed(
        connection: sa.Connection, _cursor: Any, statement: str, _given: Any, _context: Any, _many: bool
    ) -> None:
        changed: set[str] | None = connection.get_execution_options().get("changed_topics")
        if changed is not None:
            changed.update(topics_of(statement))
