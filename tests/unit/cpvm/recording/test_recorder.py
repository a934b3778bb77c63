# SPDX-License-Identifier: Apache-2.0
"""What a session's recorder keeps of the server's messages, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from systemvm.cpvm.recording import recorder as module
from systemvm.cpvm.recording import spool as spool_module
from systemvm.cpvm.recording.messages import RecordingBegin
from systemvm.cpvm.recording.recorder import SessionRecorder
from systemvm.cpvm.recording.spool import RecordingSpool
from systemvm.recording.format import FrameKind, RecordingError, RecordingKind
from systemvm.recording.reader import RecordingReader
from systemvm.wire.console import ConsoleKind
from systemvm.wire.recording import RecordingEnd, RecordingOrder
from unit.cpvm.recording.recorded_updates import ID, OLD_FORMAT, played, update

NEW_FORMAT = bytes((32, 24, 0, 1)) + b"\0\xff\0\xff\0\xff" + bytes((0, 8, 16)) + bytes(3)
SET_FORMAT = b"\0\0\0\0" + NEW_FORMAT
BELL = b"\2"


class Session:
    """A recorder, its spool, and what it reported."""

    def __init__(
        self, directory: Path, *, key: str = "", max_bytes: int = 1 << 20, is_required: bool = False
    ) -> None:
        self.now_ms = 7_000  # of the log
        self.spool = RecordingSpool(directory)
        self.ends: list[RecordingEnd] = []
        self.gaps: list[bool] = []
        self.recorder = SessionRecorder(
            RecordingBegin(
                RecordingOrder(ID, "web-1", max_bytes, is_required, key), ConsoleKind.SCREEN, 4, 2, OLD_FORMAT
            ),
            self.spool,
            lambda time_ms: 1_700_000_000_500 + time_ms,
            lambda recorder, end: self.ends.append(end),
            lambda recorder, is_open: self.gaps.append(is_open),
        )
        self.recorder.begin()

    def advance(self, seconds: float) -> None:
        self.now_ms += int(1000 * seconds)

    def requested(self) -> Session:
        self.recorder.set_format(NEW_FORMAT, is_fixed=True)
        return self

    def shows(self, *parts: bytes) -> None:
        for part in parts:
            self.recorder.server(self.now_ms, part)

    def end(self) -> None:
        self.recorder.end(self.now_ms)

    def wants(self) -> tuple[int, int] | None:
        return self.recorder.wanted_size(self.now_ms)

    def file(self) -> bytes:
        content = b""
        while (piece := self.spool.oldest(ID)) is not None:
            content += piece.data
            self.spool.remove(piece)
        return content

    def reader(self, key: bytes | None = None) -> RecordingReader:
        file = self.file()
        return RecordingReader(lambda offset, count: file[offset : offset + count], len(file), key)


def test_what_passes_is_recorded_with_its_time(tmp_path: Path) -> None:
    session = Session(tmp_path).requested()
    first, second = update(1), update(2, 2, 1)
    session.shows(first[:7], first[7:])
    session.advance(2.5)
    session.shows(second)
    session.end()
    reader = session.reader()
    assert session.ends == [RecordingEnd.COMPLETE] and reader.is_ended
    assert reader.header.title == "web-1" and reader.header.started_unix_ms == 1_700_000_007_500
    assert played(reader) == first + second
    assert reader.duration_ms == 2500
    assert [keyframe.time_ms for keyframe in reader.keyframes] == [0]


def test_a_recording_begins_when_the_format_of_pixels_is_fixed(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.shows(BELL)
    session.recorder.set_format(NEW_FORMAT, is_fixed=False)
    session.shows(BELL + b"\3\0\0\0\0\0\0\5he")  # a text whose rest comes after the request
    session.requested()
    session.shows(b"llo")
    session.shows(update(7))
    session.end()
    reader = session.reader()
    assert reader.header.pixel_format == NEW_FORMAT
    assert played(reader) == update(7)
    [keyframe] = reader.keyframes
    assert keyframe.offset == 0


def test_a_server_that_is_not_asked_is_recorded_too(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.shows(update(3))
    session.end()
    reader = session.reader()
    assert played(reader) == update(3) and reader.header.pixel_format == OLD_FORMAT


def test_a_player_can_begin_at_each_full_update(tmp_path: Path) -> None:
    session = Session(tmp_path).requested()
    for number in range(1, 4):
        session.shows(update(number) + update(9, 1, 1))
        session.advance(1)
    session.end()
    reader = session.reader()
    assert [keyframe.time_ms for keyframe in reader.keyframes] == [0, 1000, 2000]
    assert played(reader, 1500) == update(2) + update(9, 1, 1) + update(3) + update(9, 1, 1)


def test_a_full_update_is_wanted_after_many_bytes_or_long_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYFRAME_EACH_BYTES", 100)
    session = Session(tmp_path).requested()
    session.shows(update(1))
    session.advance(60)
    assert session.wants() is None and not session.recorder.is_watched  # nothing has changed
    session.shows(update(2, 1, 1))
    assert session.recorder.is_watched
    assert session.wants() == (4, 2)
    session.advance(1)
    assert session.wants() is None  # it was just asked for
    session.shows(update(3))
    session.advance(5)
    assert session.wants() is None
    session.shows(*[update(4, 1, 1)] * 5)
    assert session.wants() == (4, 2)


def test_an_encrypted_recording_opens_with_its_key_alone(tmp_path: Path) -> None:
    key = bytes(range(32))
    session = Session(tmp_path, key=key.hex()).requested()
    session.shows(update(0x5A))
    session.end()
    file = session.file()
    assert bytes((0x5A,)) * 32 not in file

    def read(offset: int, count: int) -> bytes:
        return file[offset : offset + count]

    assert played(RecordingReader(read, len(file), key)) == update(0x5A)
    with pytest.raises(RecordingError):
        RecordingReader(read, len(file), bytes(32))


def test_a_full_spool_makes_a_gap_that_ends_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_RECORDING_BYTES", 40_000)
    session = Session(tmp_path).requested()
    session.shows(update(1))
    session.advance(1)
    session.shows(*[update(2)] * 400)  # the last ones find no room
    assert session.gaps == [True] and session.ends == []
    session.advance(1)
    half = update(3)
    session.shows(half[:9])
    assert session.wants() is None  # still no room
    stored = session.file()
    assert session.wants() == (4, 2)
    session.shows(half[9:])  # the end of a message: the recording goes on with the next one
    assert session.gaps == [True]
    session.advance(1)
    session.shows(update(4, 1, 1), update(5))
    assert session.gaps == [True, False]
    session.end()
    file = stored + session.file()
    reader = RecordingReader(lambda offset, count: file[offset : offset + count], len(file))
    assert session.ends == [RecordingEnd.COMPLETE] and reader.is_ended
    shown = [frame.content for frame in reader.play() if frame.kind is FrameKind.SERVER]
    assert shown[:2] == [update(1), update(2)] and shown[-2:] == [update(4, 1, 1), update(5)]
    assert update(3) not in shown
    [gap] = [frame for frame in reader.play() if frame.kind is FrameKind.EVENT]
    assert (gap.time_ms, json.loads(gap.content)) == (3000, {"event": "gap", "from_ms": "1000"})
    # a player that begins behind the gap begins with the full update there
    assert played(reader, 3000) == update(5)
    assert session.spool.gaps_of(ID) == 1
    assert RecordingSpool(tmp_path).recover() == {ID: RecordingEnd.COMPLETE}


def test_an_update_that_began_in_a_gap_is_no_keyframe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_RECORDING_BYTES", 40_000)
    session = Session(tmp_path).requested()
    session.shows(*[update(2)] * 400)
    assert session.gaps == [True]
    half = update(3)
    session.shows(half[:9])
    stored = session.file()
    session.shows(half[9:] + update(4))  # in one piece with the end of what is lost
    assert session.gaps == [True]
    session.shows(update(6, 1, 1))
    session.end()
    file = stored + session.file()
    reader = RecordingReader(lambda offset, count: file[offset : offset + count], len(file))
    assert update(4) not in played(reader, -1) and played(reader, -1).endswith(update(6, 1, 1))


def test_a_recording_that_must_be_whole_ends_when_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_RECORDING_BYTES", 40_000)
    session = Session(tmp_path, is_required=True).requested()
    session.shows(*[update(2)] * 400)
    assert session.ends == [RecordingEnd.SPOOL_FULL] and session.gaps == []
    session.end()  # with the connection
    assert session.ends == [RecordingEnd.SPOOL_FULL]
    reader = session.reader()
    assert played(reader).startswith(update(2)) and not reader.is_ended


def test_the_largest_size_ends_it_as_a_whole(tmp_path: Path) -> None:
    session = Session(tmp_path, max_bytes=1000).requested()
    for number in range(40):
        session.shows(update(number))
    assert session.ends == [RecordingEnd.TOO_LONG]
    reader = session.reader()
    assert reader.is_ended and played(reader, 0)
    assert reader.valid_bytes < 2000


def test_a_spool_that_cannot_be_written_ends_it(tmp_path: Path) -> None:
    session = Session(tmp_path / "no" / "such" / "place")
    assert session.ends == [RecordingEnd.SPOOL_FAILED]
    session.requested()
    session.shows(update(1))
    assert session.ends == [RecordingEnd.SPOOL_FAILED]


def test_a_server_that_cannot_be_followed_ends_it(tmp_path: Path) -> None:
    session = Session(tmp_path).requested()
    session.shows(update(1), b"\xfe", update(2))
    assert session.ends == [RecordingEnd.UNREADABLE]
    assert played(session.reader()) == update(1)


def test_a_serial_port_is_recorded_as_it_is(tmp_path: Path) -> None:
    spool, ends = RecordingSpool(tmp_path), list[RecordingEnd]()
    recorder = SessionRecorder(
        RecordingBegin(RecordingOrder(ID, "web-1", 1 << 20), ConsoleKind.SERIAL),
        spool,
        lambda time_ms: time_ms,
        lambda recorder, end: ends.append(end),
    )
    recorder.begin()
    recorder.server(1000, b"login: ")
    recorder.server(2500, b"\xfe root\r\n")
    assert recorder.wanted_size(100_000) is None
    recorder.end(3000)
    piece = spool.oldest(ID)
    assert piece is not None and ends == [RecordingEnd.COMPLETE]
    file = piece.data
    reader = RecordingReader(lambda offset, count: file[offset : offset + count], len(file))
    assert reader.header.kind is RecordingKind.SERIAL and reader.is_ended and reader.duration_ms == 2000
    frames = [(frame.time_ms, frame.content) for frame in reader.play()]
    assert frames == [(0, b"login: "), (1500, b"\xfe root\r\n")]
