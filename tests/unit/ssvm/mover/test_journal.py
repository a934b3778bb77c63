# SPDX-License-Identifier: Apache-2.0
"""The journal of a transfer: read back as it was written, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.mover_messages import JOURNAL_NAME
from systemvm.ssvm.resumable import journal as codec
from systemvm.ssvm.resumable.journal import Journal
from systemvm.ssvm.resumable.journal_file import JournalFile

JOURNAL = Journal(
    source_id="a" * 64,
    validator='"one"',
    total_bytes=1000,
    encoding=None,
    hashed_bytes=600,
    hash_state=b"\0state\xff",
    decoder="gzip",
    decoded_bytes=500,
    file_bytes=5000,
    inspector={"kind": "dict", "value": []},
)


@given(st.binary(max_size=200), st.integers(1, 600), st.sampled_from([None, '"x"', "a date"]))
def test_a_journal_is_read_as_it_was_written(state: bytes, offset: int, validator: str | None) -> None:
    journal = evolve(JOURNAL, hash_state=state, decoded_bytes=offset, validator=validator)
    assert codec.decode(codec.encode(journal)) == journal


@given(st.data())
def test_a_damaged_journal_is_none(data: st.DataObject) -> None:
    content = bytearray(codec.encode(JOURNAL))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    assert codec.decode(bytes(content)) is None
    assert codec.decode(bytes(content[:position])) is None


@given(st.binary())
def test_anything_else_is_none(content: bytes) -> None:
    assert codec.decode(content) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"decoded_bytes": 0},
        {"decoded_bytes": 601},
        {"hashed_bytes": 1001},
        {"file_bytes": -1},
        {"decoder": None},  # then the file has as many bytes as were decoded
    ],
)
def test_a_journal_of_an_impossible_transfer_is_none(changes: dict[str, object]) -> None:
    assert codec.decode(codec.encode(evolve(JOURNAL, **changes))) is None  # type: ignore[arg-type]


def test_the_file_is_replaced_as_a_whole_and_removed(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        file = JournalFile(directory)
        assert file.read() is None
        for offset in (100, 200):
            file.write(evolve(JOURNAL, decoded_bytes=offset))
            assert file.read() == evolve(JOURNAL, decoded_bytes=offset)
        assert [path.name for path in tmp_path.iterdir()] == [JOURNAL_NAME]
        file.remove()
        file.remove()
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(directory)


def test_a_link_in_place_of_the_journal_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(codec.encode(JOURNAL))
    (tmp_path / JOURNAL_NAME).symlink_to(elsewhere)
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="symbolic links"):
            JournalFile(directory).read()
    finally:
        os.close(directory)
