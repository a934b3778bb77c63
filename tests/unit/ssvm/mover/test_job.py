# SPDX-License-Identifier: Apache-2.0
"""What a mover says when the store fails where nothing else looks."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from systemvm.ssvm.mover import job
from systemvm.ssvm.mover_messages import MoverJob, decode_report
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

JOB = MoverJob("job-1", "images.example.test", "images.example.test", "/a", False, ImageFormat.QCOW2, 1 << 30)


def test_a_stale_handle_is_the_stores_failure_and_no_internal_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the NFS server comes back and knows the directory no more."""

    def stale(descriptor: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(job, "ResumingSource", lambda *_: SimpleNamespace(total_bytes=1))
    monkeypatch.setattr(os, "fstatvfs", stale)
    ours, theirs = socket.socketpair()
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with ours, theirs:
            job.Mover(theirs, theirs, directory, JOB).run()
            failure = decode_report(ours.recv(65536)).failure
    finally:
        os.close(directory)
    assert failure is not None
    assert failure.code == TransferFailure.STORE_FAILED.value
    assert "Stale file handle" in failure.message
    assert failure.hint == "the server forgot the export; mount the store again"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many files open"),
        (ValueError("hunter2"), "a program of the SSVM failed unexpectedly"),
    ],
)
def test_its_own_trouble_is_not_blamed_on_the_store_and_shows_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Exception, message: str
) -> None:
    def fail(*_: object) -> None:
        raise broken

    monkeypatch.setattr(job, "ResumingSource", fail)
    ours, theirs = socket.socketpair()
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with ours, theirs:
            job.Mover(theirs, theirs, directory, JOB).run()
            failure = decode_report(ours.recv(65536)).failure
    finally:
        os.close(directory)
    assert failure is not None
    assert failure.code == TransferFailure.INTERNAL.value
    assert message in failure.message
    assert "hunter2" not in failure.message + failure.hint
