# SPDX-License-Identifier: Apache-2.0
"""The pictures of a video: one size, equal distances, and what the screen showed at each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from rfb_decoder import PIXEL_FORMAT
from systemvm.cli import recording_video as video
from systemvm.recording.format import RecordingError, RecordingHeader
from systemvm.recording.reader import RecordingReader
from systemvm.recording.writer import RecordingWriter
from unit.cpvm.filter.rfb_samples import rectangle, u32, update


def filled(grey: int, width: int = 4, height: int = 3) -> bytes:
    return update(rectangle(2, u32(0) + bytes((grey,)) * 4, width, height))


def recording(*updates: tuple[int, bytes], end_ms: int) -> RecordingReader:
    writer = RecordingWriter(RecordingHeader(4, 3, PIXEL_FORMAT, 0, "web-1"))
    data = writer.begin
    for time_ms, content in updates:
        data += writer.server(time_ms, content)
    data += writer.end(end_ms)
    return RecordingReader(lambda offset, count: data[offset : offset + count], len(data))


def test_pictures_are_those_of_their_times() -> None:
    shown = list(
        video.pictures(recording((0, filled(10)), (250, filled(20)), (950, filled(30)), end_ms=1200))
    )
    assert {picture.size for picture in shown} == {(4, 4)}  # even, for the codecs
    greys = [picture.getpixel((0, 0)) for picture in shown]
    assert [grey[0] for grey in greys if isinstance(grey, tuple)] == [10] * 3 + [20] * 7 + [30] * 2


def test_a_recording_of_a_moment_has_a_picture() -> None:
    assert len(list(video.pictures(recording((0, filled(10)), end_ms=0)))) == 1


def test_a_gap_is_passed_over() -> None:
    writer = RecordingWriter(RecordingHeader(4, 3, PIXEL_FORMAT, 0))
    data = writer.begin + writer.server(0, filled(10)) + writer.server(100, filled(20)[:-3])
    data += writer.event(400, {"event": "watched"}) + writer.event(500, {"event": "gap", "from_ms": "200"})
    data += writer.server(500, filled(30)) + writer.end(600)
    reader = RecordingReader(lambda offset, count: data[offset : offset + count], len(data))
    greys = [picture.getpixel((0, 0)) for picture in video.pictures(reader)]
    assert [grey[0] for grey in greys if isinstance(grey, tuple)] == [10] * 5 + [30]


def test_a_screen_that_grows_fits_on_the_picture() -> None:
    grown = update(rectangle(-223, b"", 9, 7), rectangle(2, u32(0) + b"\x50" * 4, 9, 7))
    writer = RecordingWriter(RecordingHeader(4, 3, PIXEL_FORMAT, 0))
    data = writer.begin + writer.server(0, filled(10)) + writer.server(500, grown)
    data += writer.keyframe(500, len(filled(10)), 9, 7) + writer.end(600)
    reader = RecordingReader(lambda offset, count: data[offset : offset + count], len(data))
    pictures = list(video.pictures(reader))
    assert {picture.size for picture in pictures} == {(10, 8)}
    assert pictures[-1].getpixel((8, 6)) == (0x50, 0x50, 0x50)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot export"):
        video.export(recording(end_ms=0), tmp_path / "console.gif")


def test_without_ffmpeg_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecordingError) as missing:
        video.export(recording(end_ms=0), tmp_path / "console.mp4")
    assert "apt-get install ffmpeg" in missing.value.hint
