# SPDX-License-Identifier: Apache-2.0
"""A commit changes its topics; one of another process changes everything."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from systemvm.management.state import accounts, events, schema
from systemvm.management.state.changes import Changes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.events import EventFilter
from systemvm.management.state.kept_results import keep
from systemvm.management.state.topics import any_of, columns


class Commits:
    """Counters of commits in place of the database's."""

    def __init__(self) -> None:
        self.count = 0
        self.version = 0
        self.changes = Changes(lambda: self.count)

    def committing(self, *topics: str) -> AbstractContextManager[None]:
        return self.changes.committing(topics, lambda: self.version)

    def of_others(self, number: int) -> None:
        self.count += number
        self.version += number

    def have_changed(self, topic: str) -> bool:
        return not self.changes.unchanged_since(0, (topic,))


#: How often SQLite counts an own commit: not one that left all pages as they were.
both_counts = pytest.mark.parametrize("counted", [1, 0])


@both_counts
def test_an_own_commit_changes_nothing_else_before_it_is_noted(counted: int) -> None:
    """Else a million events would be counted again whenever a request came at that moment."""
    commits = Commits()
    with commits.committing("nics"):
        assert (commits.have_changed("nics"), commits.have_changed("events")) == (True, False)
        commits.count += counted
        assert (commits.have_changed("nics"), commits.have_changed("events")) == (True, False)
    assert (commits.have_changed("nics"), commits.have_changed("events")) == (True, False)


@both_counts
@pytest.mark.parametrize("of_others", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_commit_of_another_process_is_seen_before_beside_and_after_an_own_one(
    of_others: tuple[int, int, int], counted: int
) -> None:
    before, beside, after = of_others
    commits = Commits()
    commits.of_others(before)
    with commits.committing("nics"):
        commits.count += counted
        commits.of_others(beside)
    commits.of_others(after)
    assert commits.have_changed("events")
    later = commits.changes.commit
    assert commits.changes.unchanged_since(later, ("events", "nics"))
    commits.of_others(1)
    assert not commits.changes.unchanged_since(later, ("events",))


@both_counts
@pytest.mark.parametrize("of_others", [(1, 0), (0, 1)])
def test_a_commit_of_another_process_until_an_own_one_is_noted_is_seen(
    of_others: tuple[int, int], counted: int
) -> None:
    commits = Commits()
    before_and_after_it_is_read = iter([(0, 0), of_others])

    def version() -> int:
        before, after = next(before_and_after_it_is_read)
        commits.of_others(before)
        read = commits.version
        commits.of_others(after)
        return read

    with commits.changes.committing({"nics"}, version):
        commits.count += counted
    assert commits.have_changed("events")


def test_an_own_commit_beside_which_nothing_can_be_read_changes_everything() -> None:
    commits = Commits()
    versions = iter([1])

    def version() -> int:
        for each in versions:
            return each
        raise sqlite3.OperationalError("disk I/O error")

    with commits.changes.committing({"nics"}, version):
        commits.count += 1
    assert commits.have_changed("events")


def test_a_failed_commit_changes_nothing_and_hides_none_of_another_process() -> None:
    commits = Commits()
    with pytest.raises(OSError), commits.committing("nics"):
        raise OSError
    assert not commits.have_changed("nics")
    commits.of_others(1)
    assert commits.have_changed("nics") and commits.have_changed("events")


def test_a_commit_of_a_second_thread_waits_until_the_first_is_noted() -> None:
    """It has the write lock as soon as the first is made."""
    commits = Commits()
    found: list[bool] = []

    def look() -> int:
        found.append(commits.have_changed("nics"))
        return 0

    def commit() -> None:
        with commits.changes.committing({"volumes"}, look):
            commits.count += 1

    second = threading.Thread(target=commit)
    with commits.committing("nics"):
        commits.count += 1
        before = commits.changes.commit
        second.start()
        assert commits.changes.commit == before
    second.join()
    assert found == [True, True]
    assert commits.have_changed("volumes") and not commits.have_changed("events")


def test_the_databases_own_commits_are_told_from_those_of_others(database: Database, tmp_path: Path) -> None:
    domains = schema.domains

    def touch(connection: Connection) -> None:
        connection.execute(domains.update().where(domains.c.id == -1).values(name="none"))

    def write_the_same(connection: Connection) -> None:
        connection.execute(domains.update().values(name=domains.c.name))

    before = database.changes.commit
    database.run_now(events.record, "A", "b")
    for counts_no_commit in (touch, write_the_same, write_the_same):
        database.run_now(counts_no_commit)
        database.run_now(events.record, "A", "b")
    assert database.changes.unchanged_since(before, ("nics", "accounts"))
    assert not database.changes.unchanged_since(before, ("events",))
    with contextlib.closing(sqlite3.connect(tmp_path / "systemvm.sqlite")) as shell, shell:
        shell.execute("UPDATE domains SET name = 'renamed'")
    assert not database.changes.unchanged_since(before, ("nics",))


def test_a_commit_of_another_process_beside_one_without_effect_is_seen(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = schema.domains
    database.run_now(accounts.create_domain, "more", "/more/")
    commit = database.engine.dialect.do_commit

    def paths(connection: Connection) -> list[str]:
        return keep(
            connection, "paths", columns(domains, "path"),
            lambda reader: [domain.path for domain in accounts.all_domains(reader)],
        )  # fmt: skip

    def commit_and_let_another_commit(connection: Any) -> None:
        commit(connection)
        with contextlib.closing(sqlite3.connect(tmp_path / "systemvm.sqlite")) as shell, shell:
            shell.execute("UPDATE domains SET path = '/renamed/' WHERE name = 'more'")

    assert database._read_now(paths) == ["/", "/more/"]
    with monkeypatch.context() as patched:
        patched.setattr(database.engine.dialect, "do_commit", commit_and_let_another_commit)
        database.run_now(lambda writer: writer.execute(domains.update().values(name=domains.c.name)))
    assert database._read_now(paths) == ["/", "/renamed/"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_writer_sees_its_own_changes_and_a_rollback_changes_nothing(
    database: Database, fails: bool
) -> None:
    def count(connection: Connection) -> int:
        return keep(
            connection, "domains", any_of(schema.domains), lambda reader: len(accounts.all_domains(reader))
        )

    def write(connection: Connection) -> int:
        accounts.create_domain(connection, "more", "/more/")
        if fails:
            raise ArithmeticError
        return count(connection)

    before = database._read_now(count)
    if fails:
        with pytest.raises(ArithmeticError):
            database.run_now(write)
    else:
        assert database.run_now(write) == before + 1
    assert database._read_now(count) == before + (not fails)


def test_events_that_were_counted_are_not_counted_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []

    def executed(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT count"):
            counted.append(statement)

    def count() -> int:
        return database._read_now(events.page, EventFilter(type="A"), slice(0, 1))[1]

    sa.event.listen(database.engine, "after_cursor_execute", executed)
    database.run_now(events.record, "A", "b")
    assert [count(), count(), len(counted)] == [1, 1, 1]
    for kind in ("A", "B", "A"):
        database.run_now(events.record, kind, "b")
    assert count() == 3
    assert "events.id > ?" in counted[-1]
    database.run_now(
        lambda connection: connection.execute(schema.events.delete().where(schema.events.c.id == 1))
    )
    assert count() == 2
