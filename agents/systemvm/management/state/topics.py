# SPDX-License-Identifier: Apache-2.0
"""Topics: what a statement changes in the database, and what a reader of it depends on."""

from __future__ import annotations

import functools
import re
from contextvars import ContextVar
from typing import Any

import sqlalchemy as sa

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
