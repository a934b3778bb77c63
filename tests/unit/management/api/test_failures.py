# SPDX-License-Identifier: Apache-2.0
"""What a caller reads when a command fails: the cause where it is known, a request id where it is not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import sqlalchemy as sa

from systemvm.management.api.errors import ErrorCode
from systemvm.management.api.failures import as_api_error


def test_a_full_disk_is_no_internal_error() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/var/lib/systemvm/primary/volumes/x.qcow2")
    answer = as_api_error(full, "request-1")
    assert answer.code is ErrorCode.RESOURCE_UNAVAILABLE
    assert answer.text == "The host cannot do it: the disk of /var/lib/systemvm/primary/volumes is full"
    assert "df -h" in answer.hint


def test_a_full_database_is_no_internal_error(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'db'}")
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError) as full:
        connection.exec_driver_sql("CREATE TABLE t (x BLOB)")
        connection.exec_driver_sql("PRAGMA max_page_count = 3")
        connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(100000))")
    answer = as_api_error(full.value, "request-1")
    assert answer.text == "The host cannot do it: the disk of the database is full"
    assert "zeroblob" not in answer.text, "no SQL reaches a caller"


def test_what_nobody_foresaw_keeps_its_text_in_the_log() -> None:
    answer = as_api_error(ValueError("a secret"), "request-1")
    assert answer.code is ErrorCode.INTERNAL
    assert "request-1" in answer.text
    assert "secret" not in answer.text + answer.hint
