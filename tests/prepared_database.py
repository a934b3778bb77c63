# SPDX-License-Identifier: Apache-2.0
"""Databases that are made once for each test process and copied for each test.

Migrations and the hash of the first password cost a fifth of a second; a copy costs a millisecond. Each
engine would also compile every statement again, which cost more than to execute them.
"""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from systemvm.management.first_start import make_first_accounts
from systemvm.management.pki.seal import Seal
from systemvm.management.state.database import Database

#: By statement; the key contains the dialect, and all of SQLite's are the same here.
_COMPILED: dict[Any, Any] = {}
SQLiteDialect_pysqlite.__hash__ = lambda self: hash(SQLiteDialect_pysqlite)  # type: ignore[method-assign]
SQLiteDialect_pysqlite.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]


def open_file(path: Path) -> Database:
    """Return the database in a file. A crash of the machine may damage it."""
    database = Database.open(path)
    database.engine.update_execution_options(compiled_cache=_COMPILED)
    return database


def open_migrated(path: Path) -> Database:
    """Return a database without rows."""
    path.write_bytes(_migrated())
    return open_file(path)


def open_first_start(path: Path, pki: Path) -> Database:
    """Return a database with the first accounts; their seal's key is written to `pki`."""
    database, key = _first_start()
    path.write_bytes(database)
    pki.mkdir(parents=True, exist_ok=True)
    (pki / "seal.key").write_bytes(key)
    (pki / "seal.key").chmod(0o600)
    return open_file(path)


@functools.cache
def _migrated() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory, "db")
        Database.open(path).close()
        return path.read_bytes()


@functools.cache
def _first_start() -> tuple[bytes, bytes]:
    with TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "db"
        database = open_migrated(path)
        make_first_accounts(database, Seal.open_key(directory), directory / "login")
        database.close()
        return path.read_bytes(), (directory / "seal.key").read_bytes()
