# SPDX-License-Identifier: Apache-2.0
"""A VNC server's stream as the relay of a recorded console sees it: what is read is copied, unread."""

from __future__ import annotations

from collections.abc import Callable

from systemvm.cpvm.recording.shared_log import EntryKind
from systemvm.cpvm.recording.tap import RecordingTap
from systemvm.cpvm.target_stream import TargetStream

_SERVER = EntryKind.SERVER


class TappedStream:
    """Nothing is read while `must_wait` returns True."""

    def __init__(self, target: TargetStream, tap: RecordingTap, must_wait: Callable[[], bool]) -> None:
        self._target = target
        self._read_into = target.read_into
        self._tap = tap
        self._writer = writer = tap.writer
        self._write = writer.write
        self._must_wait = must_wait
        self.fileno, self.has_pending = target.fileno, target.has_pending
        self.write, self.close = target.write, target.close

    @property
    def reading_needs_write(self) -> bool:
        return self._target.reading_needs_write

    def read_into(self, buffer: memoryview) -> int:
        """Return how many bytes were received, 0 at the end.

        Raises: BlockingIOError when there is nothing now, another OSError when the connection is broken.
        """
        if self._writer.is_pressed and self._must_wait():
            raise BlockingIOError
        count = self._read_into(buffer)
        if count and not self._tap.is_ended:
            self._write(_SERVER, self._tap.number, buffer[:count])
        return count
