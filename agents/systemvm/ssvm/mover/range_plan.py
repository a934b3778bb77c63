# SPDX-License-Identifier: Apache-2.0
"""Divides the rest of a file among connections, and puts what they receive in order again.

Sans-IO. Only what is in order can be hashed and decompressed, so what comes too early waits in memory, and
nothing is requested further than a window in front of the first missing byte.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

from systemvm.ssvm.limits import MIB

SEGMENT_BYTES = 2 * MIB
#: What can wait in memory; a mover has 40 MiB in all.
WINDOW_BYTES = 10 * MIB


@define(eq=False)
class Segment:
    """A part of the file that one connection receives; `position` is its next missing byte."""

    start: int
    end: int
    position: int = field(init=False)
    is_owned: bool = True
    chunks: deque[bytes] = field(factory=deque)

    def __attrs_post_init__(self) -> None:
        self.position = self.start

    @property
    def is_complete(self) -> bool:
        return self.position == self.end


class RangePlan:
    """The bytes from `start` to `end`; those before `frontier` have been taken."""

    def __init__(
        self, start: int, end: int, segment_bytes: int = SEGMENT_BYTES, window_bytes: int = WINDOW_BYTES
    ) -> None:
        self._end = end
        self._segment_bytes = segment_bytes
        self._window_bytes = window_bytes
        self._segments: deque[Segment] = deque()  # in order, from the frontier on
        self._next = start
        self.frontier = start
        self.waiting_bytes = 0

    @property
    def is_done(self) -> bool:
        return self.frontier == self._end

    def assign(self) -> Segment | None:
        """Return the next part to request, the first missing one first; None when there is none now."""
        for segment in self._segments:
            if not segment.is_owned and not segment.is_complete:
                segment.is_owned = True
                return segment
        end = min(self._end, self._next + self._segment_bytes)
        if self._next == self._end or end > self.frontier + self._window_bytes:
            return None
        segment = Segment(self._next, end)
        self._next = end
        self._segments.append(segment)
        return segment

    def end_here(self) -> None:
        """Assign no part behind those that are assigned already."""
        self._end = self._next

    def put(self, segment: Segment, data: bytes) -> None:
        """Keep the next bytes of a part.

        Raises: ValueError for more bytes than were requested.
        """
        if len(data) > segment.end - segment.position:
            raise ValueError("more bytes than the part has")
        segment.chunks.append(data)
        segment.position += len(data)
        self.waiting_bytes += len(data)

    def give_back(self, segment: Segment) -> None:
        """Have the rest of a part requested by another connection."""
        segment.is_owned = False

    def take(self, at_most: int) -> bytes:
        """Return the next bytes in order; empty when they have not come yet, or all were taken."""
        while self._segments:
            first = self._segments[0]
            if first.chunks:
                data = first.chunks.popleft()
                if len(data) > at_most:
                    first.chunks.appendleft(data[at_most:])
                    data = data[:at_most]
                self.frontier += len(data)
                self.waiting_bytes -= len(data)
                return data
            if not first.is_complete:
                break
            self._segments.popleft()
        return b""
