# SPDX-License-Identifier: Apache-2.0
"""The report of a mover when the store or the SSVM fails."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from systemvm.ssvm.mover import job
from systemvm.ssvm.mover_messages import MoverFailure, MoverJob, decode_report
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

JOB = MoverJob("job-1", "images.example.test", "images.example.test", "/a", False, ImageFormat.QCOW2, 1 << 30)


def failure_of_run(directory: Path) -> MoverFailure:
    """Run the job in this process, and return the failure that it reports."""
    ours, theirs = socket.socketpair()
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with ours, theirs:
            job.Mover(theirs, os.dup(theirs.fileno()), descriptor, JOB).run()
            failure = decode_report(ours.recv(65536)).failure
    finally:
        os.close(descriptor)
    assert failure is not None
    return failure


def test_a_stale_handle_is_a_failure_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ESTALE occurs when a restarted NFS server has lost the directory."""

    def stale(descriptor: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(job, "ResumingSource", lambda *_: SimpleNamespace(total_bytes=1, received_bytes=0))
    monkeypatch.setattr(os, "fstatvfs", stale)
    failure = failure_of_run(tmp_path)
    assert failure.code == TransferFailure.STORE_FAILED.value
    assert "Stale file handle" in failure.message
    assert failure.hint == "mount the store again: the server has lost the export"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many files open"),
        (ValueError("hunter2"), "a program of the SSVM failed unexpectedly"),
    ],
)
def test_a_fault_of_the_ssvm_is_not_reported_as_one_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Exception, message: str
) -> None:
    def fail(*_: object) -> None:
        raise broken

    monkeypatch.setattr(job, "ResumingSource", fail)
    failure = failure_of_run(tmp_path)
    assert failure.code == TransferFailure.INTERNAL.value
    assert message in failure.message
    assert "hunter2" not in failure.message + failure.hint
