# SPDX-License-Identifier: Apache-2.0
"""The counter of commits in the memory that SQLite's connections share."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemvm.management.state.wal_commits import WalCommits


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE one (number INTEGER)")
        yield connection


@pytest.fixture
def commits(writer: sqlite3.Connection, tmp_path: Path) -> Iterator[WalCommits]:
    counter = WalCommits(tmp_path / "a.sqlite")
    yield counter
    counter.close()


def test_each_commit_is_counted_once_and_nothing_else(
    writer: sqlite3.Connection, commits: WalCommits
) -> None:
    before = commits.count()
    writer.execute("INSERT INTO one VALUES (1)")
    assert commits.count() == before + 1
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO one VALUES (2), (3)")
    assert commits.count() == before + 1
    writer.execute("COMMIT")
    assert commits.count() == before + 2
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO one VALUES (4)")
    writer.execute("ROLLBACK")
    writer.execute("UPDATE one SET number = 5 WHERE number = 6")
    writer.execute("UPDATE one SET number = number")
    writer.execute("SELECT * FROM one").fetchall()
    assert commits.count() == before + 2


def test_a_checkpoint_is_no_commit_and_starts_no_new_count(
    writer: sqlite3.Connection, commits: WalCommits
) -> None:
    writer.execute("INSERT INTO one VALUES (1)")
    before = commits.count()
    for mode in ("PASSIVE", "RESTART", "TRUNCATE"):
        writer.execute(f"PRAGMA wal_checkpoint({mode})")
    assert commits.count() == before
    writer.execute("INSERT INTO one VALUES (1)")
    assert commits.count() == before + 1


def test_a_commit_of_another_process_is_counted(commits: WalCommits, tmp_path: Path) -> None:
    before = commits.count()
    program = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as connection:
    connection.execute("DELETE FROM one")
    connection.execute("INSERT INTO one VALUES (1)")
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.sqlite")], check=True)
    assert commits.count() == before + 1


def test_a_closed_counter_returns_the_last_count(writer: sqlite3.Connection, commits: WalCommits) -> None:
    writer.execute("INSERT INTO one VALUES (1)")
    last = commits.count()
    commits.close()
    commits.close()
    assert commits.count() == last
