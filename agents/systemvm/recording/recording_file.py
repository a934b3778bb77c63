# SPDX-License-Identifier: Apache-2.0
"""Recordings as files: opened for reading, and repaired after a crash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from systemvm.recording.reader import RecordingReader


@contextmanager
def open_recording(path: Path, key: bytes | None = None) -> Iterator[RecordingReader]:
    """Open a recording; it may be written meanwhile.

    Raises: RecordingError when the file is no recording or the key does not fit.
    """
    with path.open("rb") as file:
        descriptor = file.fileno()
        yield RecordingReader(
            lambda offset, count: os.pread(descriptor, count, offset), os.fstat(descriptor).st_size, key
        )


def repair(path: Path, key: bytes | None = None) -> int:
    """Cut an incomplete or damaged end off, and return how many bytes; nothing may write to the file.

    Raises: RecordingError as `open_recording`; then the file stays as it is.
    """
    with open_recording(path, key) as recording:
        valid_bytes = recording.valid_bytes
    with path.open("r+b") as file:
        cut_bytes = max(0, os.fstat(file.fileno()).st_size - valid_bytes)
        if cut_bytes:
            file.truncate(valid_bytes)
            os.fsync(file.fileno())
    return cut_bytes
