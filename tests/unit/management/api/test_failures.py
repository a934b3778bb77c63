# SPDX-License-Identifier: Apache-2.0
"""Errors of commands: the cause when it has a code, otherwise only the request's id."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import sqlalchemy as sa

from systemvm.management.api.errors import ErrorCode
from systemvm.management.api.failures import as_api_error
from systemvm.management.state.list_turns import TooManyListsError
from systemvm.management.state.rows import NotFoundError
from systemvm.rpc.core.errors import BUSY, DEADLINE, RpcError
from systemvm.service.errors import FailureCode, SystemVmError


def test_full_disk_is_not_an_internal_error() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/var/lib/systemvm/primary/volumes/x.qcow2")
    answer = as_api_error(full, "request-1")
    assert answer.code is ErrorCode.RESOURCE_UNAVAILABLE
    assert answer.message == "host cannot do this: the disk of /var/lib/systemvm/primary/volumes is full"
    assert "df -h" in answer.hint


def test_full_database_is_not_an_internal_error(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'db'}")
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError) as full:
        connection.exec_driver_sql("CREATE TABLE t (x BLOB)")
        connection.exec_driver_sql("PRAGMA max_page_count = 3")
        connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(100000))")
    answer = as_api_error(full.value, "request-1")
    assert answer.message == "host cannot do this: the disk of the database is full"
    assert "zeroblob" not in answer.message, "SQL is not sent to a caller"


def test_a_full_queue_of_lists_says_when_to_try_again() -> None:
    answer = as_api_error(TooManyListsError(), "request-1")
    assert (answer.code, answer.retry_after_s) == (ErrorCode.BUSY, 1.0)


def test_text_of_an_unexpected_error_is_only_logged() -> None:
    answer = as_api_error(ValueError("a secret"), "request-1")
    assert answer.code is ErrorCode.INTERNAL
    assert "request-1" in answer.message
    assert "secret" not in answer.message + answer.hint


class _NoStoreLeftError(SystemVmError):
    code = FailureCode.NO_STORE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (_NoStoreLeftError("no store is left", "add one"), ErrorCode.RESOURCE_ALLOCATION),
        (
            SystemVmError("it fails", "mend it", code=FailureCode.UNAVAILABLE),
            ErrorCode.RESOURCE_UNAVAILABLE,
        ),
        (
            SystemVmError("none is left", code=FailureCode.NO_CAPACITY),
            ErrorCode.INSUFFICIENT_CAPACITY,
        ),
        (NotFoundError("there is no VM 7"), ErrorCode.PARAMETER),
        (RpcError(BUSY, "s-1-VM is busy", {"hint": "wait"}), ErrorCode.BUSY),
        (RpcError(DEADLINE, "s-1-VM did not answer"), ErrorCode.RESOURCE_UNAVAILABLE),
    ],
)
def test_the_code_of_an_error_decides_the_answer(error: SystemVmError, code: ErrorCode) -> None:
    answer = as_api_error(error, "request-1")
    assert (answer.code, answer.message, answer.hint) == (code, error.message, error.hint)


@pytest.mark.parametrize("code", [FailureCode.CONFIGURATION, FailureCode.PROTOCOL, FailureCode.INTERNAL])
def test_internal_code_is_logged_and_not_sent(code: FailureCode) -> None:
    answer = as_api_error(SystemVmError("a secret", code=code), "request-1")
    assert answer.code is ErrorCode.INTERNAL
    assert "secret" not in answer.message + answer.hint
