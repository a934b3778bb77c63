# SPDX-License-Identifier: Apache-2.0
"""The recording of one connection: what its filter passes to the browser, with the time.

Nothing here waits. A recording that cannot go on ends; the console goes on unless its order says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

from systemvm.cpvm.filter.scanner import Piece
from systemvm.cpvm.filter.server_messages import FullUpdate, ServerMessage
from systemvm.cpvm.filter.session_filter import SessionFilter
from systemvm.cpvm.recording.spool import RecordingSpool, SpoolFullError
from systemvm.cpvm.rfb import ServerInit
from systemvm.recording.format import RecordingError, RecordingHeader
from systemvm.recording.writer import RecordingWriter
from systemvm.wire.console import ConsolePolicy
from systemvm.wire.recording import RecordingEnd, RecordingOrder

#: A player seeks to a full update of the screen; after so much, or so long with any change, one is asked for.
KEYFRAME_EACH_BYTES = 2 << 20
KEYFRAME_EACH_MS = 30_000


class SessionRecorder:
    """Records a connection behind `filter`; `on_end` is called once, with the reason."""

    def __init__(
        self,
        order: RecordingOrder,
        policy: ConsolePolicy,
        screen: ServerInit,
        spool: RecordingSpool,
        seconds: Callable[[], float],
        unix_s: Callable[[], float],
        on_end: Callable[[SessionRecorder, RecordingEnd], None],
    ) -> None:
        self.order = order
        self.filter = SessionFilter(policy, screen, self._note_full_update)
        self._screen = screen
        self._spool = spool
        self._seconds = seconds
        self._unix_s = unix_s
        self._on_end = on_end
        self._writer: RecordingWriter | None = None
        self._begun_s = 0.0
        self._skipped_bytes = 0  # before the first that is recorded
        self._written_bytes = 0
        self._full_updates: list[FullUpdate] = []
        self._keyframe_ms = 0
        self._bytes_since_keyframe = 0
        self.is_ended = False

    def begin(self) -> None:
        """Make the recording exist, so that its end is reported even if nothing is shown."""
        try:
            self._spool.begin(self.order.recording_id)
        except OSError:
            self._finish(RecordingEnd.SPOOL_FAILED)

    def from_server(self, data: Piece) -> list[Piece]:
        """Return what to send to the browser, after recording it.

        Raises: FilterError when the VNC server sends what cannot be followed.
        """
        was_at_boundary = self.filter.is_at_boundary
        pieces = self.filter.from_server(data)
        if not self.is_ended and pieces:
            self._record(pieces, was_at_boundary)
        return pieces

    @property
    def wants_full_update(self) -> bool:
        """Return whether so much has changed that a player needs another place to begin at."""
        if self.is_ended or not self._bytes_since_keyframe:
            return False
        is_long = self._time_ms() - self._keyframe_ms >= KEYFRAME_EACH_MS
        return is_long or self._bytes_since_keyframe >= KEYFRAME_EACH_BYTES

    def end(self, end: RecordingEnd = RecordingEnd.COMPLETE) -> None:
        """End the recording; what was recorded is readable as a whole."""
        if self.is_ended:
            return
        if self._writer is not None:
            try:
                last = self._writer.end(self._time_ms())
                self._spool.append(self.order.recording_id, last, is_last=True)
            except OSError:
                end = RecordingEnd.SPOOL_FAILED
            except RecordingError:
                end = RecordingEnd.TOO_LONG
        self._finish(end)

    def _note_full_update(self, update: FullUpdate) -> None:
        if not self.is_ended:
            self._full_updates.append(update)

    def _record(self, pieces: list[Piece], was_at_boundary: bool) -> None:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        has_format = self.filter.is_format_fixed or data[0] == ServerMessage.FRAMEBUFFER_UPDATE
        if self._writer is None and not (was_at_boundary and has_format):
            # a recording begins with a whole message, when the format of its pixels is the last one
            self._skipped_bytes += len(data)
            self._full_updates.clear()
            return
        try:
            if self._writer is None:
                self._writer = self._begin_file()
            if self._written_bytes + len(data) > self.order.max_bytes:
                self.end(RecordingEnd.TOO_LONG)
                return
            time_ms = self._time_ms()
            output = self._writer.server(time_ms, data)
            self._bytes_since_keyframe += len(data)
            for update in self._full_updates:
                offset = update.begin - self._skipped_bytes
                output += self._writer.keyframe(time_ms, offset, update.width_px, update.height_px)
                self._keyframe_ms, self._bytes_since_keyframe = time_ms, 0
            self._full_updates.clear()
            self._keep(output)
        # then the writer has counted frames that are not in the file, so that it cannot write the last one
        except SpoolFullError:
            self._finish(RecordingEnd.SPOOL_FULL)
        except OSError:
            self._finish(RecordingEnd.SPOOL_FAILED)
        except RecordingError:
            self._finish(RecordingEnd.TOO_LONG)

    def _begin_file(self) -> RecordingWriter:
        self._begun_s = self._seconds()
        key = bytes.fromhex(self.order.key) if self.order.key else None
        header = RecordingHeader(
            self.filter.width_px,
            self.filter.height_px,
            self.filter.pixel_format,
            int(self._unix_s() * 1000),
            self.order.title,
        )
        writer = RecordingWriter(header, key)
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
        self._full_updates.clear()
        self._spool.end(self.order.recording_id, end)
        self._on_end(self, end)

    def _time_ms(self) -> int:
        return int((self._seconds() - self._begun_s) * 1000) if self._writer is not None else 0
