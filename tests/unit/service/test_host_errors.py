# SPDX-License-Identifier: Apache-2.0
"""Faults of the host, recognized by errno anywhere in a chain of exceptions."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from systemvm.service.host_errors import HostFault, explain, explain_full_disk


@pytest.mark.parametrize(
    ("number", "fault", "message"),
    [
        (errno.ENOSPC, HostFault.DISK_FULL, "the disk of /var/lib/systemvm/primary is full"),
        (errno.EDQUOT, HostFault.QUOTA_EXCEEDED, "the disk quota of /var/lib/systemvm/primary is used up"),
        (errno.EROFS, HostFault.READ_ONLY, "the file system of /var/lib/systemvm/primary is read-only"),
        (errno.EIO, HostFault.IO_ERROR, "the disk of /var/lib/systemvm/primary fails: input/output error"),
        (errno.ENOMEM, HostFault.OUT_OF_MEMORY, "this machine is out of memory"),
        (errno.EMFILE, HostFault.TOO_MANY_FILES, "this machine has too many files open"),
        (errno.ENFILE, HostFault.TOO_MANY_FILES, "this machine has too many files open"),
    ],
)
def test_an_errno_is_mapped_to_its_fault(number: int, fault: HostFault, message: str) -> None:
    error = OSError(number, os.strerror(number), "/var/lib/systemvm/primary/x.qcow2")
    found = explain(error)
    assert found is not None
    assert (found.fault, found.message) == (fault, message)
    assert found.hint


def test_the_cause_of_an_exception_is_examined() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("the clone failed") from error
    except RuntimeError as error:
        found = explain(error, "primary storage")
    assert found is not None
    assert found.message == "the disk of primary storage is full"


def test_a_full_database_is_a_full_disk(tmp_path: Path) -> None:
    """SQLite itself raises SQLITE_FULL here, because the file cannot grow."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'db'}")
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError) as full:
        connection.exec_driver_sql("CREATE TABLE t (x BLOB)")
        connection.exec_driver_sql("PRAGMA max_page_count = 3")
        connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(100000))")
    found = explain(full.value)
    assert found is not None
    assert (found.fault, found.message) == (HostFault.DISK_FULL, "the disk of the database is full")


def test_a_read_only_database_is_a_read_only_file_system(tmp_path: Path) -> None:
    path = tmp_path / "db"
    sqlite3.connect(path).close()
    with pytest.raises(sqlite3.OperationalError) as refused:
        sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("CREATE TABLE t (x)")
    found = explain(refused.value)
    assert found is not None
    assert found.message == "the file system of the database is read-only"


@pytest.mark.parametrize(
    "error",
    [
        None,
        ValueError("disk is full"),
        FileNotFoundError(errno.ENOENT, "no"),
        sqlite3.OperationalError("full"),
    ],
)
def test_other_errors_are_not_faults_of_the_machine(error: Exception | None) -> None:
    assert explain(error) is None


@pytest.mark.parametrize(
    ("free_blocks", "free_inodes", "full"),
    [(1000, 10, False), (0, 10, True), (1000, 0, True), (255, 10, True)],
)
def test_a_file_system_without_room_or_without_inodes_is_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_blocks: int, free_inodes: int, full: bool
) -> None:
    state = SimpleNamespace(f_bavail=free_blocks, f_frsize=4096, f_files=100, f_favail=free_inodes)
    monkeypatch.setattr(os, "statvfs", lambda _: state)
    found = explain_full_disk(tmp_path)
    assert (found is not None) is full
    assert found is None or found.message == f"the disk of {tmp_path} is full"
