# SPDX-License-Identifier: Apache-2.0
"""The recording of one connection: what its browser got, with the time, in the recorder's process.

Nothing here waits. While the spool has no room, the recording has a gap, which it names; one that must be
whole ends instead.
"""

from __future__ import annotations

from collections.abc import Callable

from systemvm.cpvm.filter.faults import FilterError
from systemvm.cpvm.filter.server_messages import FullUpdate
from systemvm.cpvm.recording.messages import RecordingBegin
from systemvm.cpvm.recording.recorded_stream import ScreenMessages, stream_of
from systemvm.cpvm.recording.spool import RecordingSpool, SpoolFullError
from systemvm.recording.format import RecordingError
from systemvm.recording.writer import RecordingWriter
from systemvm.wire.recording import RecordingEnd

#: A player seeks to a full update of the screen; after so much, or so long with any change, one is asked for.
KEYFRAME_EACH_BYTES = 2 << 20
KEYFRAME_EACH_MS = 30_000
#: A server that was asked for a full update is not asked again before.
ASKED_EACH_MS = 5_000
#: Of the frames around what is recorded at once.
_FRAMING_BYTES = 4096


class SessionRecorder:
    """Records a connection; `on_end` is called once, with the reason, and `on_gap` when a gap begins or ends.

    `unix_ms_at` converts a time of the log into that of the clock on the wall.
    """

    def __init__(
        self,
        begin: RecordingBegin,
        spool: RecordingSpool,
        unix_ms_at: Callable[[int], int],
        on_end: Callable[[SessionRecorder, RecordingEnd], None],
        on_gap: Callable[[SessionRecorder, bool], None] = lambda recorder, is_open: None,
    ) -> None:
        self.order = begin.order
        self._stream = stream_of(begin)
        self._spool = spool
        self._unix_ms_at = unix_ms_at
        self._on_end = on_end
        self._on_gap = on_gap
        self._writer: RecordingWriter | None = None
        self._begun_ms = 0
        self._skipped_bytes = 0  # of the stream, before its next byte: what is not in the recording
        self._resumed_at = 0  # in the stream
        self._position = 0  # in the stream
        self._recorded_bytes = 0  # of the stream
        self._written_bytes = 0
        self._keyframe_ms = 0
        self._bytes_since_keyframe = 0
        self._asked_ms = -ASKED_EACH_MS
        self._gap_from_ms: int | None = None
        self.is_ended = False

    def begin(self) -> None:
        """Make the recording exist, so that its end is reported even if nothing is shown."""
        try:
            self._spool.begin(self.order.recording_id)
        except OSError:
            self._finish(RecordingEnd.SPOOL_FAILED)

    def set_format(self, pixel_format: bytes, is_fixed: bool) -> None:
        """Set the format of pixels of what follows."""
        try:
            self._stream.set_format(pixel_format, is_fixed)
        except FilterError:
            self._finish(RecordingEnd.UNREADABLE)

    def server(self, now_ms: int, data: bytes) -> None:
        """Record what the browser got at a time."""
        if self.is_ended:
            return
        was_between = self._stream.is_between
        try:
            passed = self._stream.feed(data)
        except FilterError:
            self.end(now_ms, RecordingEnd.UNREADABLE)
            return
        if not passed:
            return
        begin, self._position = self._position, self._position + len(passed)
        full_updates = self._stream.full_updates()
        if self._goes_on(now_ms, passed, was_between):
            skipped_bytes = begin - self._recorded_bytes
            if self._skipped_bytes != skipped_bytes:
                self._skipped_bytes, self._resumed_at = skipped_bytes, begin
            self._record(now_ms, passed, full_updates)

    def wanted_size(self, now_ms: int) -> tuple[int, int] | None:
        """Return the size of the screen when a player needs all of it now; it is asked for at once."""
        stream = self._stream
        if self.is_ended or not isinstance(stream, ScreenMessages) or self._writer is None:
            return None
        if now_ms - self._asked_ms < ASKED_EACH_MS:
            return None
        if self._gap_from_ms is not None:
            is_wanted = self._spool.is_roomy(self.order.recording_id)
        else:
            is_long = now_ms - self._begun_ms - self._keyframe_ms >= KEYFRAME_EACH_MS
            is_wanted = bool(self._bytes_since_keyframe) and (
                is_long or self._bytes_since_keyframe >= KEYFRAME_EACH_BYTES
            )
        if not is_wanted:
            return None
        self._asked_ms = now_ms
        return stream.state.width_px, stream.state.height_px

    @property
    def is_watched(self) -> bool:
        """Return whether time alone can make it want a full update."""
        return not self.is_ended and (bool(self._bytes_since_keyframe) or self._gap_from_ms is not None)

    def end(self, now_ms: int, end: RecordingEnd = RecordingEnd.COMPLETE) -> None:
        """End the recording; what was recorded is readable as a whole."""
        if self.is_ended:
            return
        if self._writer is not None:
            try:
                last = self._gap_event(self._writer, now_ms) + self._writer.end(now_ms - self._begun_ms)
                self._spool.append(self.order.recording_id, last, is_last=True)
            except OSError:
                end = RecordingEnd.SPOOL_FAILED
            except RecordingError:
                end = RecordingEnd.TOO_LONG
        self._finish(end)

    # -- what is written

    def _goes_on(self, now_ms: int, data: bytes, was_between: bool) -> bool:
        """Return whether this data is recorded; begin or end a gap."""
        if self._writer is None:
            return was_between and self._stream.can_begin(data)
        recording_id = self.order.recording_id
        if self._gap_from_ms is not None:
            if not was_between or not self._spool.is_roomy(recording_id):
                return False
            self._on_gap(self, False)
            return True
        if self._spool.has_room(recording_id, len(data) + _FRAMING_BYTES):
            return True
        if self.order.is_required:
            self._finish(RecordingEnd.SPOOL_FULL)
            return False
        self._gap_from_ms = now_ms
        self._spool.note_gap(recording_id)
        self._on_gap(self, True)
        return False

    def _record(self, now_ms: int, data: bytes, full_updates: list[FullUpdate]) -> None:
        try:
            if self._writer is None:
                self._writer = self._begin_file(now_ms)
            if self._written_bytes + len(data) > self.order.max_bytes:
                self.end(now_ms, RecordingEnd.TOO_LONG)
                return
            time_ms = now_ms - self._begun_ms
            output = self._gap_event(self._writer, now_ms)
            output += self._writer.server(time_ms, data)
            self._recorded_bytes += len(data)
            self._bytes_since_keyframe += len(data)
            for update in full_updates:
                if update.begin < self._resumed_at:
                    continue  # its beginning is in the gap
                offset = update.begin - self._skipped_bytes
                output += self._writer.keyframe(time_ms, offset, update.width_px, update.height_px)
                self._keyframe_ms, self._bytes_since_keyframe = time_ms, 0
            self._keep(output)
        # then the writer has counted frames that are not in the file, so that it cannot write the last one
        except SpoolFullError:
            self._finish(RecordingEnd.SPOOL_FULL)
        except OSError:
            self._finish(RecordingEnd.SPOOL_FAILED)
        except RecordingError:
            self._finish(RecordingEnd.TOO_LONG)

    def _gap_event(self, writer: RecordingWriter, now_ms: int) -> bytes:
        """Return the frame that names the gap which ends now, if there is one."""
        began_ms, self._gap_from_ms = self._gap_from_ms, None
        if began_ms is None:
            return b""
        members = {"event": "gap", "from_ms": str(began_ms - self._begun_ms)}
        return writer.event(now_ms - self._begun_ms, members)

    def _begin_file(self, now_ms: int) -> RecordingWriter:
        self._begun_ms = now_ms
        key = bytes.fromhex(self.order.key) if self.order.key else None
        writer = RecordingWriter(self._stream.header(self._unix_ms_at(now_ms), self.order.title), key)
        self._keep(writer.begin)
        return writer

    def _keep(self, output: bytes) -> None:
        self._spool.append(self.order.recording_id, output)
        self._written_bytes += len(output)

    def _finish(self, end: RecordingEnd) -> None:
        if self.is_ended:
            return
        self.is_ended = True
        self._writer = None
        self._spool.end(self.order.recording_id, end)
        self._on_end(self, end)
