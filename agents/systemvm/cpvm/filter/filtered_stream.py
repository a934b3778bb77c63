# SPDX-License-Identifier: Apache-2.0
"""A VNC server's stream as the relay sees it, with the filter in front: only such sessions pay for it."""

from __future__ import annotations

from collections.abc import Callable

from systemvm.cpvm.filter.faults import FilterError
from systemvm.cpvm.filter.scanner import Piece
from systemvm.cpvm.target_stream import TargetStream

#: A message whose beginning was withheld is passed with what follows it.
_WITHHELD_BYTES = 64


class FilteredStream:
    """Reads through `passed`; `on_fault` is called when the server cannot be followed.

    Nothing is read while `must_wait` returns True.
    """

    def __init__(
        self,
        target: TargetStream,
        passed: Callable[[Piece], list[Piece]],
        on_fault: Callable[[FilterError], None],
        must_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        self._target = target
        self._passed = passed
        self._on_fault = on_fault
        self._must_wait = must_wait
        self.fileno, self.has_pending = target.fileno, target.has_pending
        self.write, self.close = target.write, target.close

    @property
    def reading_needs_write(self) -> bool:
        return self._target.reading_needs_write

    def read_into(self, buffer: memoryview) -> int:
        """Return how many bytes passed, 0 at the end.

        Raises: BlockingIOError when nothing passes now, another OSError when the connection is broken or the
        server cannot be followed.
        """
        if self._must_wait():
            raise BlockingIOError
        count = self._target.read_into(buffer[: len(buffer) - _WITHHELD_BYTES])
        if not count:
            return 0
        received = buffer[:count]
        try:
            pieces = self._passed(received)
        except FilterError as fault:
            self._on_fault(fault)
            raise ConnectionAbortedError from fault
        if not pieces:
            raise BlockingIOError
        if len(pieces) == 1 and isinstance(pieces[0], memoryview) and len(pieces[0]) == count:
            return count
        joined = b"".join(pieces)  # pieces are views of the buffer that is written here
        buffer[: len(joined)] = joined
        return len(joined)
