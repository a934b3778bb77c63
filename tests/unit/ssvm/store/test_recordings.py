# SPDX-License-Identifier: Apache-2.0
"""Recordings on a store: a piece is written where it belongs, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.recording_messages import RecordingContentRequest, RecordingKey, RecordingWrite
from systemvm.ssvm.store.recordings import read_content, remove_recording, write_piece
from systemvm.wire.recording import MAX_PIECE_BYTES, RecordingContent, RecordingRefusal
from systemvm.wire.transfer_failure import TransferFailure

MOUNT_ID = "6f4b3c2a-1111-3222-8333-444455556666"
ID = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def write(mount: int, offset: int, data: bytes, recording_id: str = ID) -> int:
    return write_piece(mount, RecordingWrite(MOUNT_ID, 2, recording_id, offset, data)).size_bytes


def read(mount: int, offset: int = 0, count: int = MAX_PIECE_BYTES) -> RecordingContent:
    return read_content(mount, RecordingContentRequest(MOUNT_ID, 2, ID, offset, count))


def refusal(mount: int, offset: int, data: bytes) -> str:
    with pytest.raises(RpcError) as refused:
        write(mount, offset, data)
    return refused.value.reason


def test_pieces_make_the_file(mount: int, tmp_path: Path) -> None:
    assert [write(mount, 0, b"one "), write(mount, 4, b"two")] == [4, 7]
    path = tmp_path / "console-recordings" / "2" / f"{ID}.svrec"
    assert path.read_bytes() == b"one two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_piece_that_comes_again_changes_nothing(mount: int) -> None:
    write(mount, 0, b"one ")
    write(mount, 4, b"two")
    assert write(mount, 0, b"one ") == 7
    assert read(mount).data == b"one two"


def test_a_gap_is_refused(mount: int) -> None:
    write(mount, 0, b"one ")
    assert refusal(mount, 5, b"two") == RecordingRefusal.GAP.value
    assert read(mount).data == b"one "


def test_a_deleted_recording_does_not_come_back(mount: int) -> None:
    write(mount, 0, b"one ")
    remove_recording(mount, RecordingKey(MOUNT_ID, 2, ID))
    remove_recording(mount, RecordingKey(MOUNT_ID, 2, ID))
    assert refusal(mount, 4, b"two") == RecordingRefusal.UNKNOWN.value
    with pytest.raises(TransferError) as lost:
        read(mount)
    assert lost.value.code is TransferFailure.LOST


def test_a_part_is_read_with_the_size_of_the_whole(mount: int) -> None:
    write(mount, 0, b"0123456789")
    assert read(mount, 3, 4) == RecordingContent(b"3456", 10)
    assert read(mount, 10) == RecordingContent(b"", 10)


@pytest.mark.parametrize("recording_id", ["", "..", "../x", "a/b", "x" * 65])
def test_only_an_id_names_a_file(mount: int, recording_id: str) -> None:
    with pytest.raises(TransferError) as refused:
        write(mount, 0, b"x", recording_id)
    assert refused.value.code is TransferFailure.REQUEST_INVALID


def test_a_link_of_another_client_is_not_followed(mount: int, tmp_path: Path) -> None:
    write(mount, 0, b"one")
    path = tmp_path / "console-recordings" / "2" / f"{ID}.svrec"
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(OSError):
        write(mount, 0, b"two")
    assert target.read_bytes() == b"untouched"
