# SPDX-License-Identifier: Apache-2.0
"""Recordings: every cut and changed byte is found, and keyframes can be sought."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from systemvm.recording.format import (
    MAX_FRAME_BYTES,
    FrameKind,
    RecordedFrame,
    RecordingError,
    RecordingHeader,
)
from systemvm.recording.reader import RecordingReader
from systemvm.recording.recording_file import open_recording, repair
from systemvm.recording.writer import RecordingWriter

HEADER = RecordingHeader(640, 480, bytes(range(16)), 1_800_000_000_000, "web-1", {"session": "s-1"})
KEY = bytes(range(32))
KEYS = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])


def reading(data: bytes, key: bytes | None) -> RecordingReader:
    return RecordingReader(lambda offset, count: data[offset : offset + count], len(data), key)


def server_bytes(recording: RecordingReader, from_ms: int = 0) -> bytes:
    return b"".join(frame.content for frame in recording.play(from_ms) if frame.kind is FrameKind.SERVER)


class Sample:
    """A recording of 60 ms with a keyframe at 25 ms, whose update began in the middle of a frame."""

    def __init__(self, key: bytes | None) -> None:
        writer = RecordingWriter(HEADER, key)
        self.frames = [
            writer.begin,
            writer.server(10, b"before" + b"full "),
            writer.server(20, b"update"),
            writer.keyframe(25, len(b"before"), 800, 600),
            writer.event(30, {"what": "resumed"}),
            writer.server(40, b"after"),
            writer.end(60),
        ]
        self.data = b"".join(self.frames)


@KEYS
@pytest.mark.parametrize("ended", [True, False])
def test_what_is_written_is_read(key: bytes | None, ended: bool) -> None:
    sample = Sample(key)
    data = sample.data if ended else b"".join(sample.frames[:-1])
    recording = reading(data, key)
    assert recording.header == HEADER
    assert (recording.is_ended, recording.duration_ms) == (ended, 60 if ended else 40)
    assert recording.valid_bytes == len(data)
    assert server_bytes(recording) == b"beforefull updateafter"
    assert RecordedFrame(FrameKind.EVENT, 30, b'{"what": "resumed"}') in list(recording.play())


@KEYS
@pytest.mark.parametrize("ended", [True, False])
def test_playing_begins_at_the_keyframe_before_a_time(key: bytes | None, ended: bool) -> None:
    sample = Sample(key)
    recording = reading(sample.data if ended else b"".join(sample.frames[:-1]), key)
    [keyframe] = recording.keyframes
    assert (keyframe.time_ms, keyframe.width_px, keyframe.height_px) == (25, 800, 600)
    assert recording.keyframe_at(24) is None and recording.keyframe_at(25) == keyframe
    assert server_bytes(recording, 24) == b"beforefull updateafter"
    assert server_bytes(recording, 50) == b"full updateafter"


def test_a_recording_that_ended_is_opened_by_its_index() -> None:
    writer = RecordingWriter(HEADER, KEY)
    data = writer.begin + b"".join(
        writer.server(time, bytes(5000)) + writer.keyframe(time, 5000 * time, 640, 480) for time in range(100)
    )
    data += writer.end(100)
    read: list[int] = []

    def counted(offset: int, count: int) -> bytes:
        read.append(count)
        return data[offset : offset + count]

    recording = RecordingReader(counted, len(data), KEY)
    assert len(recording.keyframes) == 100 and sum(read) < 10_000 < len(data)
    assert len(server_bytes(recording, 99)) == 5000


@KEYS
def test_every_cut_loses_only_the_frame_that_it_hits(key: bytes | None) -> None:
    sample = Sample(key)
    ends = [sum(map(len, sample.frames[: count + 1])) for count in range(len(sample.frames) - 1)]
    for kept in range(ends[0], len(sample.data)):
        recording = reading(sample.data[:kept], key)
        if not recording.is_ended:
            assert recording.valid_bytes == max(end for end in ends if end <= kept)
        assert b"beforefull updateafter".startswith(server_bytes(recording))


@KEYS
def test_a_cut_header_is_no_recording(key: bytes | None) -> None:
    sample = Sample(key)
    for kept in range(len(sample.frames[0])):
        with pytest.raises(RecordingError):
            reading(sample.data[:kept], key)


@KEYS
def test_a_changed_byte_is_never_read_as_true(key: bytes | None) -> None:
    sample = Sample(key)
    for at in range(len(sample.data)):
        changed = bytearray(sample.data)
        changed[at] ^= 0x41
        try:
            content = server_bytes(reading(bytes(changed), key))
        except RecordingError:
            continue
        assert b"beforefull updateafter".startswith(content)


def test_encrypted_frames_cannot_be_left_out_or_exchanged() -> None:
    frames = Sample(KEY).frames
    for order in ((0, 2, 3, 4, 5), (0, 2, 1, 3, 4, 5), (0, 1, 1)):
        content = server_bytes(reading(b"".join(frames[each] for each in order), KEY))
        assert content in (b"", b"beforefull ")


def test_a_recording_opens_only_with_its_own_key() -> None:
    encrypted, plain = Sample(KEY).data, Sample(None).data
    for data, key in ((encrypted, bytes(32)), (encrypted, None), (plain, KEY), (encrypted, b"short")):
        with pytest.raises(RecordingError):
            reading(data, key)
    assert b"update" not in encrypted and b"update" in plain


def test_no_two_recordings_use_a_nonce_again() -> None:
    first, second = Sample(KEY), Sample(KEY)
    assert all(one != other for one, other in zip(first.frames, second.frames, strict=True))


@KEYS
def test_a_recording_can_be_read_while_it_is_written(key: bytes | None) -> None:
    sample = Sample(key)
    data = bytearray(sample.frames[0])
    recording = RecordingReader(lambda offset, count: bytes(data[offset : offset + count]), len(data), key)
    for frame in sample.frames[1:]:
        data += frame[:-1]
        recording.refresh()
        data += frame[-1:]
        recording.refresh()
    assert recording.is_ended and server_bytes(recording) == b"beforefull updateafter"
    assert len(recording.keyframes) == 1


@KEYS
def test_the_end_is_repaired_after_a_crash(tmp_path: Path, key: bytes | None) -> None:
    sample, path = Sample(key), tmp_path / "one.svrec"
    whole = b"".join(sample.frames[:5])
    path.write_bytes(whole + sample.frames[5][:-1])
    assert repair(path, key) == len(sample.frames[5]) - 1
    assert path.read_bytes() == whole
    assert repair(path, key) == 0
    path.write_bytes(sample.data)
    assert repair(path, key) == 0
    with open_recording(path, key) as recording:
        assert recording.is_ended and server_bytes(recording, 50) == b"full updateafter"


def test_another_file_or_a_wrong_key_repairs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "other"
    for content, key in ((b"something else", None), (Sample(KEY).data, bytes(32))):
        path.write_bytes(content)
        with pytest.raises(RecordingError):
            repair(path, key)
        assert path.read_bytes() == content


@given(st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=50)), max_size=20), st.booleans())
def test_any_sequence_is_read_as_it_was_written(parts: list[tuple[int, bytes]], encrypted: bool) -> None:
    key = KEY if encrypted else None
    writer = RecordingWriter(HEADER, key)
    recording = reading(writer.begin + b"".join(writer.server(*part) for part in parts), key)
    assert server_bytes(recording) == b"".join(data for _, data in parts)
    times = [frame.time_ms for frame in recording.play()]
    assert times == sorted(times)


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_behind_a_header_are_read_or_refused(rest: bytes) -> None:
    for key in (None, KEY):
        with suppress(RecordingError):
            assert server_bytes(reading(RecordingWriter(HEADER, key).begin + rest, key)) == b""


def test_long_data_becomes_several_frames() -> None:
    data = bytes(MAX_FRAME_BYTES + 1)
    writer = RecordingWriter(HEADER)
    recording = reading(writer.begin + writer.server(0, data), None)
    assert server_bytes(recording) == data and len(list(recording.play())) == 2


def refused(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call()


def test_nothing_is_written_behind_the_end_or_for_a_place_that_is_not_there() -> None:
    writer = RecordingWriter(HEADER)
    writer.server(0, b"update")
    refused(lambda: writer.keyframe(0, 6, 640, 480), ValueError)
    writer.end(1)
    refused(lambda: writer.server(2, b"late"), RecordingError)
    refused(lambda: writer.end(2), RecordingError)


def test_the_index_is_bounded() -> None:
    writer = RecordingWriter(HEADER)
    data = bytearray(writer.begin + writer.server(0, b"x"))
    for time in range(60_000):
        data += writer.keyframe(time, 0, 640, 480)
    data += writer.end(60_000)
    recording = reading(bytes(data), None)
    assert recording.is_ended and 10_000 < len(recording.keyframes) < 30_000
    last = recording.keyframe_at(60_000)
    assert last is not None and last.time_ms > 59_990


def test_a_header_that_is_too_long_is_refused() -> None:
    long = RecordingHeader(640, 480, bytes(16), 0, "x" * 5000)
    refused(lambda: RecordingWriter(long), RecordingError)
