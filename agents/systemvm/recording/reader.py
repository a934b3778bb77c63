# SPDX-License-Identifier: Apache-2.0
"""Reads a recording, without I/O of its own: also one that is being written, or was cut by a crash."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

from systemvm.recording.format import (
    FOOTER_BYTES,
    FOOTER_MAGIC,
    FRAME_HEAD_BYTES,
    KEYFRAME_BYTES,
    MAX_FRAME_BYTES,
    FrameKind,
    Keyframe,
    Place,
    RecordedFrame,
    RecordingError,
    read_header,
)


class RecordingReader:
    """A recording of `size_bytes` that `read(offset, count)` reads; `refresh` finds what was written since.

    A file that ended well is opened by its index. Any other is read up to the first frame that is incomplete
    or damaged: `valid_bytes` is the length without it.
    """

    def __init__(self, read: Callable[[int, int], bytes], size_bytes: int, key: bytes | None = None) -> None:
        self._read = read
        self.header, self._codec, begin = read_header(read, key)
        self._first = self._next = Place(0, begin, 0)
        self.keyframes: list[Keyframe] = []
        self.duration_ms = 0
        self.is_ended = False
        if not self._open_by_index(size_bytes):
            self.refresh()

    @property
    def valid_bytes(self) -> int:
        return self._next.begin + (FOOTER_BYTES if self.is_ended else 0)

    def refresh(self) -> None:
        """Read the frames that were not there before."""
        while not self.is_ended and (found := self._frame(self._next)) is not None:
            frame, after = found
            if frame.kind is FrameKind.KEYFRAME:
                self.keyframes.append(self._keyframe(frame.content))
            self.is_ended = frame.kind is FrameKind.END
            self.duration_ms, self._next = frame.time_ms, after

    def play(self, from_ms: int = 0) -> Iterator[RecordedFrame]:
        """Yield the server's bytes and events from the last keyframe at or before a time, or else the start.

        The first bytes are those of the keyframe's update, whatever frame they are in.
        """
        keyframe = self.keyframe_at(from_ms)
        place, skipped = (self._first, 0) if keyframe is None else (keyframe.place, keyframe.offset)
        skipped -= place.offset if keyframe is not None else 0
        while place.begin < self._next.begin:
            found = self._frame(place)
            if found is None:
                raise RecordingError(f"recording is damaged at byte {place.begin}")
            frame, place = found
            if frame.kind is FrameKind.SERVER:
                yield RecordedFrame(frame.kind, frame.time_ms, frame.content[skipped:])
                skipped = 0
            elif frame.kind is FrameKind.EVENT:
                yield frame

    def keyframe_at(self, time_ms: int) -> Keyframe | None:
        """Return the last keyframe at or before a time."""
        at = bisect.bisect_right(self.keyframes, time_ms, key=lambda keyframe: keyframe.time_ms)
        return self.keyframes[at - 1] if at else None

    def _open_by_index(self, size_bytes: int) -> bool:
        footer = self._read(max(0, size_bytes - FOOTER_BYTES), FOOTER_BYTES)
        if len(footer) < FOOTER_BYTES or not footer.startswith(FOOTER_MAGIC):
            return False
        place = Place.decode(footer[len(FOOTER_MAGIC) :])
        found = self._frame(place)
        if found is None or found[0].kind is not FrameKind.END:
            return False
        frame, after = found
        if after.begin + FOOTER_BYTES != size_bytes or len(frame.content) % KEYFRAME_BYTES:
            return False
        index = (
            frame.content[at : at + KEYFRAME_BYTES] for at in range(0, len(frame.content), KEYFRAME_BYTES)
        )
        self._next, self.is_ended, self.duration_ms = after, True, frame.time_ms
        self.keyframes = [self._keyframe(content) for content in index]
        return True

    def _keyframe(self, content: bytes) -> Keyframe:
        if len(content) != KEYFRAME_BYTES:
            raise RecordingError("keyframe of the recording is invalid")
        keyframe = Keyframe.decode(content)
        in_file = self._first.begin <= keyframe.place.begin < self._next.begin
        if not in_file or not keyframe.place.offset <= keyframe.offset:
            raise RecordingError("keyframe of the recording is invalid")
        return keyframe

    def _frame(self, place: Place) -> tuple[RecordedFrame, Place] | None:
        """Return the frame at a place and the place after it; None when it is incomplete or damaged."""
        head = self._read(place.begin, FRAME_HEAD_BYTES)
        if len(head) < FRAME_HEAD_BYTES:
            return None
        length = int.from_bytes(head[7:11], "big")
        if length > MAX_FRAME_BYTES:
            return None
        rest_bytes = length + self._codec.overhead_bytes
        rest = self._read(place.begin + FRAME_HEAD_BYTES, rest_bytes)
        frame = self._codec.decode(place.number, head, rest) if len(rest) == rest_bytes else None
        if frame is None:
            return None
        server_bytes = len(frame.content) if frame.kind is FrameKind.SERVER else 0
        after = place.begin + FRAME_HEAD_BYTES + rest_bytes
        return frame, Place(place.number + 1, after, place.offset + server_bytes)
