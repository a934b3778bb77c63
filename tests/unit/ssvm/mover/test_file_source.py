# SPDX-License-Identifier: Apache-2.0
"""A file on a store as the source of a copy: read in order, continued, changed meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover.file_source import FileSource
from systemvm.wire.transfer_failure import TransferFailure

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "image"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)
    yield file
    os.close(file)


def read(source: FileSource, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: source.read_into(memoryview(buffer))])


def test_a_file_is_read_to_its_end_and_continued_from_any_point(descriptor: int) -> None:
    source = FileSource(descriptor)
    first = read(source, 1000)
    another = FileSource(descriptor, source.resume_point())
    assert (another.received_bytes, another.total_bytes) == (1000, len(CONTENT))
    rest = b"".join(iter(lambda: read(another, 3000), b""))
    assert first + rest == CONTENT


def test_another_file_is_not_continued(descriptor: int, path: Path) -> None:
    source = FileSource(descriptor)
    read(source, 1000)
    path.write_bytes(CONTENT + b"more")
    with pytest.raises(TransferError) as changed:
        FileSource(descriptor, source.resume_point())
    assert changed.value.code is TransferFailure.SOURCE_CHANGED


def test_a_file_that_becomes_shorter_fails_the_copy(descriptor: int, path: Path) -> None:
    source = FileSource(descriptor)
    read(source, 1000)
    os.truncate(path, 500)
    with pytest.raises(TransferError) as changed:
        read(source, 1000)
    assert changed.value.code is TransferFailure.SOURCE_CHANGED
