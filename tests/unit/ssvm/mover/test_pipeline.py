# SPDX-License-Identifier: Apache-2.0
"""The failure that a job reports when both threads fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover.pipeline import BUFFER_BYTES, Pipeline
from systemvm.ssvm.mover_messages import MoverJob
from systemvm.ssvm.resumable.part_file import PartFile
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

JOB = MoverJob("job-1", "images.example.test", "images.example.test", "/a", False, ImageFormat.QCOW2, 1 << 30)


class FailingSource:
    """A source that returns one invalid buffer and fails after the writer has rejected it."""

    total_bytes: int | None = None
    content_encoding: str | None = None

    def __init__(self) -> None:
        self.received_bytes = 0
        self.pipeline: Pipeline | None = None

    def read_into(self, buffer: memoryview) -> int:
        if not self.received_bytes:
            buffer[:] = b"x" * len(buffer)
            self.received_bytes = len(buffer)
            return len(buffer)
        assert self.pipeline is not None
        assert self.pipeline._stop.wait(60), "the writer did not fail"
        raise TransferError(TransferFailure.CONNECTION_LOST, "the connection broke")


def test_a_bad_image_is_reported_before_a_lost_connection(tmp_path: Path) -> None:
    source = FailingSource()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    part = PartFile(descriptor, "")
    try:
        part.begin_anew()
        source.pipeline = Pipeline(source, part, JOB)  # type: ignore[arg-type]
        with pytest.raises(TransferError) as failed:
            source.pipeline.run()
    finally:
        part.close()
        os.close(descriptor)
    assert failed.value.code is TransferFailure.FORMAT_MISMATCH
    assert source.received_bytes == BUFFER_BYTES
