# SPDX-License-Identifier: Apache-2.0
"""What a session's recorder keeps of the server's messages, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from systemvm.cpvm.filter.faults import FilterError
from systemvm.cpvm.recording import recorder as module
from systemvm.cpvm.recording import spool as spool_module
from systemvm.cpvm.recording.recorder import SessionRecorder
from systemvm.cpvm.recording.spool import RecordingSpool
from systemvm.cpvm.rfb import ServerInit
from systemvm.recording.format import FrameKind, RecordingError
from systemvm.recording.reader import RecordingReader
from systemvm.wire.console import UNRESTRICTED
from systemvm.wire.recording import RecordingEnd, RecordingOrder

ID = "11111111-1111-4111-8111-111111111111"
OLD_FORMAT = bytes((32, 24, 1, 1)) + b"\0\xff\0\xff\0\xff" + bytes((16, 8, 0)) + bytes(3)
NEW_FORMAT = bytes((32, 24, 0, 1)) + b"\0\xff\0\xff\0\xff" + bytes((0, 8, 16)) + bytes(3)
SCREEN = ServerInit(4, 2, OLD_FORMAT, "guest")
SET_FORMAT = b"\0\0\0\0" + NEW_FORMAT
REQUEST = b"\3\0" + bytes(4) + b"\0\4\0\2"
BELL = b"\2"


def update(colour: int, width: int = 4, height: int = 2) -> bytes:
    """Return an update of a raw rectangle from the corner on."""
    size = width.to_bytes(2, "big") + height.to_bytes(2, "big")
    return b"\0\0\0\1" + bytes(4) + size + bytes(4) + bytes((colour,)) * (4 * width * height)


class Session:
    """A recorder, its spool, and the ends that it reported."""

    def __init__(self, directory: Path, *, key: str = "", max_bytes: int = 1 << 20) -> None:
        self.clock = Clock()
        self.spool = RecordingSpool(directory)
        self.ends: list[RecordingEnd] = []
        self.recorder = SessionRecorder(
            RecordingOrder(ID, "web-1", max_bytes, key=key),
            UNRESTRICTED,
            SCREEN,
            self.spool,
            self.clock.seconds,
            lambda: 1_700_000_000.5,
            lambda recorder, end: self.ends.append(end),
        )
        self.recorder.begin()

    def requested(self) -> Session:
        self.recorder.filter.from_browser(SET_FORMAT + REQUEST)
        return self

    def passed(self, *parts: bytes) -> bytes:
        return b"".join(bytes(piece) for part in parts for piece in self.recorder.from_server(part))

    def file(self) -> bytes:
        content = b""
        while (piece := self.spool.oldest(ID)) is not None:
            content += piece.data
            self.spool.remove(piece)
        return content

    def reader(self, key: bytes | None = None) -> RecordingReader:
        file = self.file()
        return RecordingReader(lambda offset, count: file[offset : offset + count], len(file), key)


def played(reader: RecordingReader, from_ms: int = 0) -> bytes:
    return b"".join(frame.content for frame in reader.play(from_ms) if frame.kind is FrameKind.SERVER)


def test_what_passes_is_recorded_with_its_time(tmp_path: Path) -> None:
    session = Session(tmp_path).requested()
    first, second = update(1), update(2, 2, 1)
    assert session.passed(first[:7], first[7:]) == first
    session.clock.advance(2.5)
    session.passed(second)
    session.recorder.end()
    reader = session.reader()
    assert session.ends == [RecordingEnd.COMPLETE] and reader.is_ended
    assert reader.header.title == "web-1" and reader.header.started_unix_ms == 1_700_000_000_500
    assert played(reader) == first + second
    assert reader.duration_ms == 2500
    assert [keyframe.time_ms for keyframe in reader.keyframes] == [0]


def test_a_recording_begins_when_the_format_of_pixels_is_fixed(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.passed(BELL)
    session.recorder.filter.from_browser(SET_FORMAT)
    session.passed(BELL + b"\3\0\0\0\0\0\0\5he")  # a text whose rest comes after the request
    session.requested()
    session.passed(b"llo")
    session.passed(update(7))
    session.recorder.end()
    reader = session.reader()
    assert reader.header.pixel_format == NEW_FORMAT
    assert played(reader) == update(7)
    [keyframe] = reader.keyframes
    assert keyframe.offset == 0


def test_a_server_that_is_not_asked_is_recorded_too(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.passed(update(3))
    session.recorder.end()
    reader = session.reader()
    assert played(reader) == update(3) and reader.header.pixel_format == OLD_FORMAT


def test_a_player_can_begin_at_each_full_update(tmp_path: Path) -> None:
    session = Session(tmp_path).requested()
    for number in range(1, 4):
        session.passed(update(number) + update(9, 1, 1))
        session.clock.advance(1)
    session.recorder.end()
    reader = session.reader()
    assert [keyframe.time_ms for keyframe in reader.keyframes] == [0, 1000, 2000]
    assert played(reader, 1500) == update(2) + update(9, 1, 1) + update(3) + update(9, 1, 1)


def test_a_full_update_is_wanted_after_many_bytes_or_long_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYFRAME_EACH_BYTES", 100)
    session = Session(tmp_path).requested()
    session.passed(update(1))
    session.clock.advance(60)
    assert not session.recorder.wants_full_update  # nothing has changed
    session.passed(update(2, 1, 1))
    assert session.recorder.wants_full_update
    session.passed(update(3))
    assert not session.recorder.wants_full_update
    session.passed(*[update(4, 1, 1)] * 5)
    assert session.recorder.wants_full_update


def test_an_encrypted_recording_opens_with_its_key_alone(tmp_path: Path) -> None:
    key = bytes(range(32))
    session = Session(tmp_path, key=key.hex()).requested()
    session.passed(update(0x5A))
    session.recorder.end()
    file = session.file()
    assert bytes((0x5A,)) * 32 not in file

    def read(offset: int, count: int) -> bytes:
        return file[offset : offset + count]

    assert played(RecordingReader(read, len(file), key)) == update(0x5A)
    with pytest.raises(RecordingError):
        RecordingReader(read, len(file), bytes(32))


def test_a_full_spool_ends_the_recording_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(tmp_path).requested()
    session.passed(update(1))
    session.clock.advance(1)
    monkeypatch.setattr(spool_module, "MAX_RECORDING_BYTES", 500)
    many = [update(number) for number in range(2, 40)]
    assert session.passed(*many) == b"".join(many)
    assert session.ends == [RecordingEnd.SPOOL_FULL]
    session.recorder.end()  # with the connection
    assert session.ends == [RecordingEnd.SPOOL_FULL]
    reader = session.reader()
    assert played(reader).startswith(update(1) + update(2)) and not reader.is_ended


def test_the_largest_size_ends_it_as_a_whole(tmp_path: Path) -> None:
    session = Session(tmp_path, max_bytes=1000).requested()
    for number in range(40):
        session.passed(update(number))
    assert session.ends == [RecordingEnd.TOO_LONG]
    reader = session.reader()
    assert reader.is_ended and played(reader, 0)
    assert reader.valid_bytes < 2000


def test_a_spool_that_cannot_be_written_ends_it(tmp_path: Path) -> None:
    session = Session(tmp_path / "no" / "such" / "place")
    assert session.ends == [RecordingEnd.SPOOL_FAILED]
    session.requested()
    assert session.passed(update(1)) == update(1)


def test_a_fault_of_the_server_passes_through(tmp_path: Path) -> None:
    session = Session(tmp_path).requested()
    session.passed(update(1))
    with pytest.raises(FilterError):
        session.passed(b"\xfe")
    session.recorder.end()
    assert played(session.reader()) == update(1)
