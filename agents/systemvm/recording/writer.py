# SPDX-License-Identifier: Apache-2.0
"""Writes a recording, without I/O: each method returns the bytes to append to the file."""

from __future__ import annotations

import json
from collections import deque

from systemvm.recording.format import (
    FOOTER_MAGIC,
    KEYFRAME_BYTES,
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    FrameKind,
    Keyframe,
    Place,
    RecordedFrame,
    RecordingError,
    RecordingHeader,
    encode_header,
)

#: An update that began in an older frame is no keyframe.
_REMEMBERED_FRAMES = 4096
_MAX_INDEXED = MAX_FRAME_BYTES // KEYFRAME_BYTES


class RecordingWriter:
    """A recording that grows; `begin` is what the file starts with, and times never run backwards.

    A recording is never continued by another writer: it would use the numbers, and so the nonces, of lost
    frames again.
    """

    def __init__(self, header: RecordingHeader, key: bytes | None = None) -> None:
        self.begin, self._codec = encode_header(header, key)
        self._next = Place(0, len(self.begin), 0)
        self._recent: deque[Place] = deque(maxlen=_REMEMBERED_FRAMES)  # of the server's bytes
        self._keyframes: list[Keyframe] = []
        self._indexed_each = 1
        self._passed_over = 0
        self._time_ms = 0
        self._is_ended = False

    def server(self, time_ms: int, data: bytes | memoryview) -> bytes:
        """Return frames for bytes that the VNC server sent."""
        output = bytearray()
        for at in range(0, len(data), MAX_FRAME_BYTES):
            piece, place = bytes(data[at : at + MAX_FRAME_BYTES]), self._next
            output += self._frame(FrameKind.SERVER, time_ms, piece)
            self._recent.append(place)
        return bytes(output)

    def keyframe(self, time_ms: int, offset: int, width_px: int, height_px: int) -> bytes:
        """Return a frame that says where a full update of the screen began in the server's bytes.

        Nothing when it began so long ago that its frame is no longer known.
        """
        if not 0 <= offset < self._next.offset:
            raise ValueError(f"offset is not in the recording: {offset} of {self._next.offset}")
        found = next((place for place in reversed(self._recent) if place.offset <= offset), None)
        if found is None:
            return b""
        keyframe = Keyframe(max(self._time_ms, time_ms), width_px, height_px, offset, found)
        output = self._frame(FrameKind.KEYFRAME, time_ms, keyframe.encode())
        self._index(keyframe)
        return output

    def event(self, time_ms: int, members: dict[str, str]) -> bytes:
        """Return a frame for something that happened to the session."""
        return self._frame(FrameKind.EVENT, time_ms, json.dumps(members, sort_keys=True).encode("utf-8"))

    def end(self, time_ms: int) -> bytes:
        """Return the last frame with the index: a reader that finds it knows that nothing is missing."""
        place = self._next
        index = b"".join(keyframe.encode() for keyframe in self._keyframes)
        ended = self._frame(FrameKind.END, time_ms, index)
        self._is_ended = True
        return ended + FOOTER_MAGIC + place.encode()

    def _index(self, keyframe: Keyframe) -> None:
        """Keep every keyframe, or every 2nd, 4th, …: the index is bounded."""
        self._passed_over += 1
        if self._passed_over < self._indexed_each:
            return
        self._passed_over = 0
        self._keyframes.append(keyframe)
        if len(self._keyframes) > _MAX_INDEXED:
            del self._keyframes[1::2]
            self._indexed_each *= 2

    def _frame(self, kind: FrameKind, time_ms: int, content: bytes) -> bytes:
        if self._is_ended:
            raise RecordingError("recording has ended")
        if len(content) > MAX_FRAME_BYTES or self._next.number >= MAX_FRAMES:
            raise RecordingError(f"recording is too long: {self._next.number} frames, {len(content)} bytes")
        self._time_ms = max(self._time_ms, time_ms)
        data = self._codec.encode(self._next.number, RecordedFrame(kind, self._time_ms, content))
        server_bytes = len(content) if kind is FrameKind.SERVER else 0
        self._next = Place(
            self._next.number + 1, self._next.begin + len(data), self._next.offset + server_bytes
        )
        return data
