# SPDX-License-Identifier: Apache-2.0
"""What was read is kept until one of its topics changes, and never longer."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from systemvm.management.state import accounts, schema, tags
from systemvm.management.state.changes import Changes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.kept_results import MAX_KEPT, MAX_SIZE, KeptResults, keep
from systemvm.management.state.tags import Tag
from systemvm.management.state.topics import EVERYTHING, any_of, columns


def test_a_result_is_kept_until_one_of_its_topics_changes() -> None:
    changes, results = Changes(), iter(range(10))
    kept = KeptResults(changes)
    topics = columns(schema.nics, "mac")

    def read() -> int:
        return kept.keep("key", topics, changes.commit, lambda: next(results))

    assert [read(), read()] == [0, 0]
    changes.committed({"nics", "nics.address"})
    assert read() == 0
    for expected, topic in enumerate(("nics.mac", "nics:inserted", "nics:deleted"), 1):
        changes.committed({"nics", topic})
        assert [read(), read()] == [expected, expected]
    changes.committed({EVERYTHING})
    assert read() == 4


def test_a_commit_during_a_read_makes_its_result_outdated() -> None:
    changes = Changes()
    kept = KeptResults(changes)

    def read_while_others_write() -> str:
        changes.committed(any_of(schema.nics))
        return "old"

    assert kept.keep("key", any_of(schema.nics), changes.commit, read_while_others_write) == "old"
    assert kept.keep("key", any_of(schema.nics), changes.commit, lambda: "new") == "new"


def test_what_a_transaction_sees_of_before_a_commit_is_outdated_after_it(database: Database) -> None:
    def names(connection: Connection) -> list[str]:
        return keep(
            connection,
            "names",
            any_of(schema.domains),
            lambda reader: [domain.name for domain in accounts.all_domains(reader)],
        )

    def read_twice_while_another_writes(connection: Connection) -> list[str]:
        accounts.all_domains(connection)  # from now on the transaction sees nothing newer
        database.run_now(accounts.create_domain, "more", "/more/")
        return names(connection)

    assert database._read_now(read_twice_while_another_writes) == ["ROOT"]
    assert database._read_now(names) == ["ROOT", "more"]


def test_a_write_of_another_process_changes_everything(database: Database, tmp_path: Path) -> None:
    def names(connection: Connection) -> list[str]:
        return keep(
            connection,
            "names",
            any_of(schema.domains),
            lambda reader: [domain.name for domain in accounts.all_domains(reader)],
        )

    assert database._read_now(names) == ["ROOT"]
    with contextlib.closing(sqlite3.connect(tmp_path / "systemvm.sqlite")) as shell, shell:
        shell.execute("UPDATE domains SET name = 'renamed'")
    assert database._read_now(names) == ["renamed"]


@pytest.mark.parametrize("size", [0, 1])
def test_the_number_of_kept_results_is_limited(size: int) -> None:
    kept = KeptResults(Changes())
    for number in range(MAX_KEPT + 1):
        kept.keep(number, (), 0, lambda: "first", lambda _: size)
    assert kept.keep(1, (), 0, lambda: "second") == "first"
    assert kept.keep(0, (), 0, lambda: "second") == "second"


def test_a_page_counts_as_its_rows() -> None:
    changes, others = Changes(), MAX_KEPT // MAX_SIZE - 2
    kept = KeptResults(changes)
    pages = iter(range(100))

    def keep_page(key: str, size: int = MAX_SIZE) -> int:
        return kept.keep(key, (), changes.commit, lambda: next(pages), lambda _: size)

    assert [keep_page("a"), keep_page("b")] == [0, 1]
    assert [keep_page("a"), keep_page("b")] == [0, 1]
    changes.committed({EVERYTHING})
    assert [keep_page("b"), keep_page("a")] == [2, 3]  # in place of the outdated ones
    for number in range(others):
        assert keep_page(f"other {number}") == 4 + number
    assert keep_page("b") == 2
    assert keep_page("c", 1) == 4 + others
    assert [keep_page("b"), keep_page("c", 1)] == [2, 4 + others]
    assert keep_page("a") == 5 + others


def test_a_page_that_is_too_long_is_not_kept_and_drops_no_other() -> None:
    changes = Changes()
    kept = KeptResults(changes)
    pages = iter(range(100))

    def keep_page(key: str, size: int) -> int:
        return kept.keep(key, (), changes.commit, lambda: next(pages), lambda _: size)

    assert [keep_page("long", 1), keep_page("long", 1)] == [0, 0]
    changes.committed({EVERYTHING})
    assert [keep_page(str(number), MAX_SIZE) for number in range(10)] == list(range(1, 11))
    assert [keep_page("long", MAX_SIZE + 1), keep_page("long", MAX_SIZE + 1)] == [11, 12]
    assert [keep_page(str(number), MAX_SIZE) for number in range(10)] == list(range(1, 11))


def test_tags_of_many_objects_count_as_those_objects(database: Database) -> None:
    def of_many(connection: Connection, number: int) -> Mapping[str, list[Tag]]:
        return tags.of_objects(connection, [f"{number}-{each}" for each in range(MAX_SIZE - 1)])

    kept = [database._read_now(of_many, number) for number in range(MAX_KEPT // MAX_SIZE)]
    assert all(database._read_now(of_many, number) is each for number, each in enumerate(kept))
    database._read_now(of_many, len(kept))
    assert database._read_now(of_many, 1) is kept[1]
    assert database._read_now(of_many, 0) is not kept[0]
