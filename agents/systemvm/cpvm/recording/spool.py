# SPDX-License-Identifier: Apache-2.0
"""What was recorded and is not stored yet, as small files that survive a kill of the agent.

The directory is on a tmpfs (`/run`), so that a write is a copy of memory and never waits for a disk; the
appliance's other file systems are read-only. A recording has a file that says that it exists, `ID`, with its
number of gaps and the reason of its end, and pieces, `ID.OFFSET`, of which only the last one grows.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from attrs import define, field, frozen

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.recording import MAX_PIECE_BYTES, RecordingEnd

#: Of all recordings, and of one of them: a session that floods does not end the recordings of others.
MAX_SPOOL_BYTES = 24 << 20
MAX_RECORDING_BYTES = 8 << 20


class SpoolFullError(SystemVmError):
    """There is no room for what was recorded."""

    code = FailureCode.NO_CAPACITY


@frozen
class SpooledPiece:
    """A piece of a recording, complete: nothing is appended to it any more."""

    recording_id: str
    offset: int
    data: bytes = field(repr=False)


@define
class _Recording:
    pieces: deque[tuple[int, int]] = field(factory=deque)  # offset and size of each; the oldest is first
    next_offset: int = 0
    open_file: BinaryIO | None = None  # of the last piece
    end: RecordingEnd | None = None
    gaps: int = 0
    bytes_kept: int = 0

    def seal(self) -> None:
        """Have the next byte begin another piece."""
        if self.open_file is not None:
            self.open_file.close()
            self.open_file = None


class RecordingSpool:
    """The pieces of all recordings of a CPVM."""

    def __init__(self, directory: Path, max_bytes: int = MAX_SPOOL_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._recordings: dict[str, _Recording] = {}
        self.bytes_kept = 0
        self.on_change: Callable[[str], None] = lambda recording_id: None  # it has begun, grown or ended

    def recover(self) -> dict[str, RecordingEnd]:
        """Find what an agent before this one has left; those that had not ended were interrupted."""
        found: dict[str, RecordingEnd] = {}
        with suppress(FileNotFoundError):
            for path in sorted(self._directory.iterdir()):
                recording_id, _, offset = path.name.partition(".")
                if not offset:
                    found[recording_id], gaps = _state_in(path)
                    self._recordings[recording_id] = _Recording(end=found[recording_id], gaps=gaps)
                elif (recording := self._recordings.get(recording_id)) is not None:
                    size = path.stat().st_size
                    recording.pieces.append((int(offset), size))
                    recording.bytes_kept += size
                    self.bytes_kept += size
                else:
                    path.unlink()  # its recording was stored or given up
        return found

    def begin(self, recording_id: str) -> None:
        """Make a recording exist.

        Raises: OSError when its file cannot be made.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._path(recording_id).write_bytes(b"")
        self._recordings[recording_id] = _Recording()
        self.on_change(recording_id)

    def append(self, recording_id: str, data: bytes, *, is_last: bool = False) -> None:
        """Keep the next bytes of a recording; the last ones are kept even if there is no room.

        Raises: SpoolFullError when there is no room, OSError when they cannot be written.
        """
        recording = self._recordings.get(recording_id)
        if recording is None:
            raise SpoolFullError("recording was given up")
        if not is_last and not self.has_room(recording_id, len(data)):
            raise SpoolFullError(
                f"recording is not stored fast enough: {recording.bytes_kept} bytes of it wait, "
                f"and {self.bytes_kept} of all; the maximum is {MAX_RECORDING_BYTES} and {self._max_bytes}"
            )
        view = memoryview(data)
        while view:
            view = view[self._append_piece(recording_id, recording, view) :]
        self.on_change(recording_id)

    def has_room(self, recording_id: str, size_bytes: int) -> bool:
        """Return whether so much more of a recording can be kept."""
        is_full = self.bytes_of(recording_id) + size_bytes > MAX_RECORDING_BYTES
        return not is_full and self.bytes_kept + size_bytes <= self._max_bytes

    def is_roomy(self, recording_id: str) -> bool:
        """Return whether half of the room is free: what goes on then goes on for a while."""
        return self.has_room(recording_id, MAX_RECORDING_BYTES // 2)

    def note_gap(self, recording_id: str) -> None:
        """Count a gap of a recording."""
        recording = self._recordings.get(recording_id)
        if recording is not None:
            recording.gaps += 1
            with suppress(OSError):  # after a restart it is not counted; the recording itself shows it
                self._path(recording_id).write_text(f"{RecordingEnd.INTERRUPTED.value} {recording.gaps}")

    def gaps_of(self, recording_id: str) -> int:
        recording = self._recordings.get(recording_id)
        return 0 if recording is None else recording.gaps

    def _append_piece(self, recording_id: str, recording: _Recording, view: memoryview) -> int:
        """Append to the last piece, or begin another one; return how many bytes it took."""
        if recording.open_file is not None and recording.pieces[-1][1] >= MAX_PIECE_BYTES:
            recording.seal()
        if recording.open_file is None:
            path = self._path(recording_id, recording.next_offset)
            recording.open_file = path.open("ab", buffering=0)
            recording.pieces.append((recording.next_offset, 0))
        offset, size = recording.pieces[-1]
        written: int = recording.open_file.write(view[: MAX_PIECE_BYTES - size])
        recording.pieces[-1] = (offset, size + written)
        recording.next_offset += written
        recording.bytes_kept += written
        self.bytes_kept += written
        return written

    def end(self, recording_id: str, end: RecordingEnd) -> None:
        """Note that a recording has ended, and why."""
        recording = self._recordings.get(recording_id)
        if recording is not None and recording.end is None:
            recording.end = end
            recording.seal()
            with suppress(OSError):  # after a restart it then counts as interrupted
                self._path(recording_id).write_text(f"{end.value} {recording.gaps}")
            self.on_change(recording_id)

    def end_of(self, recording_id: str) -> RecordingEnd | None:
        recording = self._recordings.get(recording_id)
        return None if recording is None else recording.end

    def bytes_of(self, recording_id: str) -> int:
        """Return how much of a recording is not stored."""
        recording = self._recordings.get(recording_id)
        return 0 if recording is None else recording.bytes_kept

    def oldest(self, recording_id: str) -> SpooledPiece | None:
        """Return the first piece that is not stored; None when there is none."""
        recording = self._recordings.get(recording_id)
        if recording is None or not recording.pieces:
            return None
        if len(recording.pieces) == 1:
            recording.seal()
        offset, _ = recording.pieces[0]
        return SpooledPiece(recording_id, offset, self._path(recording_id, offset).read_bytes())

    def remove(self, piece: SpooledPiece) -> None:
        """Forget a piece that is stored."""
        recording = self._recordings.get(piece.recording_id)
        if recording is not None and recording.pieces and recording.pieces[0][0] == piece.offset:
            _, size = recording.pieces.popleft()
            recording.bytes_kept -= size
            self.bytes_kept -= size
            self._path(piece.recording_id, piece.offset).unlink(missing_ok=True)

    def forget(self, recording_id: str) -> None:
        """Forget a recording, whether all of it is stored or not."""
        recording = self._recordings.pop(recording_id, None)
        if recording is None:
            return
        recording.seal()
        self.bytes_kept -= recording.bytes_kept
        for offset, _ in recording.pieces:
            self._path(recording_id, offset).unlink(missing_ok=True)
        self._path(recording_id).unlink(missing_ok=True)

    def _path(self, recording_id: str, offset: int | None = None) -> Path:
        suffix = "" if offset is None else f".{offset:015d}"
        return self._directory / f"{recording_id}{suffix}"


def _state_in(path: Path) -> tuple[RecordingEnd, int]:
    end, _, gaps = os.fsdecode(path.read_bytes()).partition(" ")
    try:
        return RecordingEnd(end), int(gaps or "0")
    except ValueError:
        return RecordingEnd.INTERRUPTED, 0
