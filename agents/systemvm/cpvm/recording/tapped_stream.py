# SPDX-License-Identifier: Apache-2.0
"""A VNC server's stream as the relay of a recorded console sees it: what is read is copied, unread."""

from __future__ import annotations

from collections.abc import Callable

from systemvm.cpvm.recording.tap import RecordingTap
from systemvm.cpvm.target_stream import TargetStream


class TappedStream:
    """Nothing is read while `must_wait` returns True; after the recording's end it is only read."""

    def __init__(self, target: TargetStream, tap: RecordingTap, must_wait: Callable[[], bool]) -> None:
        self._target = target
        self.read_into = target.read_into if tap.is_ended else tap.copying(target.read_into, must_wait)
        tap.on_stop = self._stop_copying
        self.fileno, self.has_pending = target.fileno, target.has_pending
        self.write, self.close = target.write, target.close

    @property
    def reading_needs_write(self) -> bool:
        return self._target.reading_needs_write

    def _stop_copying(self) -> None:
        self.read_into = self._target.read_into
