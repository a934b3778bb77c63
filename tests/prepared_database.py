# SPDX-License-Identifier: Apache-2.0
"""Databases that are made once for each test process and copied for each test.

Migrations and the hash of the first password cost a fifth of a second; a copy costs a millisecond.
"""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

from systemvm.management.first_start import make_first_accounts
from systemvm.management.pki.seal import Seal
from systemvm.management.state.database import Database


def open_migrated(path: Path) -> Database:
    """Return a database without rows."""
    path.write_bytes(_migrated())
    return Database.open(path)


def open_first_start(path: Path, pki: Path) -> Database:
    """Return a database with the first accounts; their seal's key is written to `pki`."""
    database, key = _first_start()
    path.write_bytes(database)
    pki.mkdir(parents=True, exist_ok=True)
    (pki / "seal.key").write_bytes(key)
    (pki / "seal.key").chmod(0o600)
    return Database.open(path)


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
