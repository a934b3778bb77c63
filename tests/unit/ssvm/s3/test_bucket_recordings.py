# SPDX-License-Identifier: Apache-2.0
"""Recordings of consoles in a bucket: their bytes are those of a file, in few objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_bucket import FakeBucket
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.recording_messages import RecordingContentRequest, RecordingKey, RecordingWrite
from systemvm.ssvm.s3 import recordings
from systemvm.ssvm.s3.recordings import BucketRecordings
from systemvm.wire.recording import MAX_PIECE_BYTES, RecordingContent, RecordingRefusal
from systemvm.wire.transfer_failure import TransferFailure

ID = "11111111-1111-4111-8111-111111111111"
FILE = bytes(number * number % 251 for number in range(3 * MAX_PIECE_BYTES))


class Recording:
    """One recording in a bucket."""

    def __init__(self) -> None:
        self.bucket = FakeBucket()
        self._files = BucketRecordings(self.bucket)

    def write(self, offset: int, data: bytes) -> int:
        return self._files.write(RecordingWrite("m", 2, ID, offset, data)).size_bytes

    def read(self, offset: int = 0, count: int = MAX_PIECE_BYTES) -> RecordingContent:
        return self._files.read(RecordingContentRequest("m", 2, ID, offset, count))

    def remove(self) -> None:
        self._files.remove(RecordingKey("m", 2, ID))

    def refusal(self, offset: int, data: bytes) -> str:
        with pytest.raises(RpcError) as refused:
            self.write(offset, data)
        return refused.value.reason

    def whole(self) -> bytes:
        found = b""
        while part := self.read(len(found)).data:
            found += part
        return found


def test_pieces_are_read_as_one_file_from_any_place() -> None:
    recording = Recording()
    size = 0
    for count in (MAX_PIECE_BYTES, 1000, MAX_PIECE_BYTES, 5):
        size = recording.write(size, FILE[size : size + count])
    assert recording.whole() == FILE[:size]
    for offset in (0, 1, MAX_PIECE_BYTES - 1, MAX_PIECE_BYTES, MAX_PIECE_BYTES + 999, size - 1):
        expected = FILE[offset : min(size, offset + MAX_PIECE_BYTES)]
        assert recording.read(offset) == RecordingContent(expected, size)
    assert recording.read(size) == RecordingContent(b"", size)
    assert recording.read(7, 3) == RecordingContent(FILE[7:10], size)


def test_small_pieces_become_few_objects() -> None:
    recording = Recording()
    for offset in range(0, len(FILE) // 2, 3000):
        recording.write(offset, FILE[offset : offset + 3000])
    sizes = [len(content) for content in recording.bucket.objects.values()]
    assert len(sizes) == 2 and max(sizes) <= MAX_PIECE_BYTES
    assert all(key.startswith(f"console-recordings/2/{ID}/") for key in recording.bucket.objects)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 50)), max_size=30))
def test_repeated_pieces_change_nothing(writes: list[tuple[int, int]]) -> None:
    """Each piece begins somewhere in what is stored, and can end before or behind its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "MAX_PIECE_BYTES", 50)
        recording, size = Recording(), 0
        for back, count in writes:
            offset = max(0, size - back)
            size = max(size, offset + count)
            assert recording.write(offset, FILE[offset : offset + count]) == size
        if size:
            assert recording.whole() == FILE[:size]
            assert max(map(len, recording.bucket.objects.values())) <= 50


def test_a_gap_is_refused() -> None:
    recording = Recording()
    recording.write(0, b"one ")
    assert recording.refusal(5, b"x") == RecordingRefusal.GAP.value
    assert recording.whole() == b"one "


def test_a_deleted_recording_does_not_come_back() -> None:
    recording = Recording()
    for offset in range(0, len(FILE), MAX_PIECE_BYTES):
        recording.write(offset, FILE[offset : offset + MAX_PIECE_BYTES])
    recording.bucket.objects["console-recordings/2/other/1"] = b"of another"
    recording.remove()
    recording.remove()
    assert list(recording.bucket.objects.values()) == [b"of another"]
    assert recording.refusal(len(FILE), b"x") == RecordingRefusal.UNKNOWN.value
    with pytest.raises(TransferError) as lost:
        recording.read()
    assert lost.value.code is TransferFailure.LOST


def test_a_piece_that_is_missing_is_never_passed_over() -> None:
    recording = Recording()
    for offset in range(0, len(FILE), MAX_PIECE_BYTES):
        recording.write(offset, FILE[offset : offset + MAX_PIECE_BYTES])
    del recording.bucket.objects[sorted(recording.bucket.objects)[1]]
    assert recording.read(0).data == FILE[:MAX_PIECE_BYTES]
    with pytest.raises(TransferError):
        recording.read(MAX_PIECE_BYTES - 1)


def test_what_is_no_piece_is_ignored() -> None:
    recording = Recording()
    recording.bucket.objects[f"console-recordings/2/{ID}/0-note"] = b"of a person"
    recording.write(0, b"one ")
    assert recording.whole() == b"one "


@pytest.mark.parametrize("recording_id", ["../2/x", "a/b", "", "x" * 100])
def test_only_an_id_names_a_recording(recording_id: str) -> None:
    with pytest.raises(TransferError):
        BucketRecordings(FakeBucket()).write(RecordingWrite("m", 2, recording_id, 0, b"x"))
