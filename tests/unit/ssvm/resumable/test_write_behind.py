# SPDX-License-Identifier: Apache-2.0
"""Writing in a thread of its own: the bytes, their order, and what a failing store does to whoever writes."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.resumable.sparse import BLOCK_BYTES, SparseWriter
from systemvm.ssvm.resumable.write_behind import WriteBehind
from systemvm.wire.transfer_failure import TransferFailure


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


class BlockedWriter(SparseWriter):
    """A writer whose store hangs until `released`."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.released = threading.Event()

    def write(self, data: bytes | memoryview) -> None:
        self.released.wait()
        super().write(data)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_any_size_and_kind_come_in_order(descriptor: int, tmp_path: Path, seed: int) -> None:
    choice = random.Random(seed)
    expected = bytearray()
    reused = bytearray(3 * BLOCK_BYTES)  # a view's buffer is filled again at once
    with closing(WriteBehind(SparseWriter(descriptor))) as writer:
        for _ in range(40):
            size = choice.choice((0, 1, 511, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 7))
            piece = bytes(size) if choice.random() < 0.4 else choice.randbytes(size)
            expected += piece
            if choice.random() < 0.5:
                writer.write(piece)
            else:
                reused[:size] = piece
                writer.write(memoryview(reused)[:size])
                reused[:size] = b"\xff" * size
            assert writer.size_bytes == len(expected)
            if choice.random() < 0.2:
                writer.flush()
                assert (tmp_path / "image").read_bytes() == expected
        writer.finish()
    assert (tmp_path / "image").read_bytes() == expected


def test_who_writes_goes_on_while_the_store_hangs(descriptor: int, tmp_path: Path) -> None:
    blocked = BlockedWriter(descriptor)
    with closing(WriteBehind(blocked)) as writer:
        writer.write(b"a" * BLOCK_BYTES)
        writer.write(b"b" * BLOCK_BYTES)
        assert (tmp_path / "image").stat().st_size == 0
        blocked.released.set()
        writer.finish()
    assert (tmp_path / "image").read_bytes() == b"a" * BLOCK_BYTES + b"b" * BLOCK_BYTES


@pytest.mark.parametrize("action", ["write", "flush", "finish"])
def test_a_failure_of_the_store_reaches_who_writes(tmp_path: Path, action: str) -> None:
    (tmp_path / "image").touch()
    read_only = os.open(tmp_path / "image", os.O_RDONLY)
    try:
        with closing(WriteBehind(SparseWriter(read_only))) as writer:
            with pytest.raises(TransferError) as failed:
                for _ in range(100):  # what waits is written before the failure is seen
                    writer.write(b"x" * BLOCK_BYTES)
                    if action != "write":
                        getattr(writer, action)()
            with pytest.raises(TransferError):  # no image of which a piece is missing is ever complete
                writer.finish()
    finally:
        os.close(read_only)
    assert failed.value.code is TransferFailure.STORE_FAILED
    assert (tmp_path / "image").stat().st_size == 0


def test_what_waits_is_written_before_the_file_is_closed(descriptor: int, tmp_path: Path) -> None:
    writer = WriteBehind(SparseWriter(descriptor))
    for _ in range(10):
        writer.write(b"x" * BLOCK_BYTES)
    writer.close()
    writer.close()
    assert (tmp_path / "image").read_bytes() == b"x" * 10 * BLOCK_BYTES
