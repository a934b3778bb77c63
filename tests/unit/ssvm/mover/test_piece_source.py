# SPDX-License-Identifier: Apache-2.0
"""A damaged piece is fetched again before it is used, and nothing else is."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.mover.piece_source import MAX_ATTEMPTS, PieceSource
from systemvm.ssvm.mover_messages import PieceDigests
from systemvm.wire.transfer_failure import TransferFailure

LENGTH = 100
DATA = bytes(range(256)) * 4  # 1,024 bytes: ten pieces and a shorter one


class Mirrors:
    """The same file at several places, each with damaged bytes of its own; each failure leads to the next."""

    content_encoding = None
    total_bytes: int | None = len(DATA)

    def __init__(self, *damaged: set[int], start: int = 0, step: int = 37) -> None:
        self._files = [bytes(b ^ (i in each) for i, b in enumerate(DATA)) for each in damaged or [set()]]
        self._step = step
        self.received_bytes = start
        self.sent_bytes = 0
        self.asked: list[int] = []

    def resume_point(self) -> ResumePoint | None:
        return None

    def read_into(self, buffer: memoryview) -> int:
        data = self._files[0][self.received_bytes :][: min(self._step, len(buffer))]
        buffer[: len(data)] = data
        self.received_bytes += len(data)
        self.sent_bytes += len(data)
        return len(data)

    def fetch_again(self, error: TransferError, position: int) -> None:
        assert error.code is TransferFailure.PIECE_DAMAGED
        self.asked.append(position)
        self.received_bytes = position
        self._files.append(self._files.pop(0))


def pieces(algorithm: str = "sha256") -> PieceDigests:
    parts = [DATA[start : start + LENGTH] for start in range(0, len(DATA), LENGTH)]
    return PieceDigests(algorithm, LENGTH, b"".join(hashlib.new(algorithm, part).digest() for part in parts))


def read_all(source: PieceSource, count: int = 64) -> bytes:
    buffer, out = bytearray(count), b""
    while length := source.read_into(memoryview(buffer)):
        out += buffer[:length]
    return out


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_a_good_file_is_read_once(algorithm: str) -> None:
    mirrors = Mirrors()
    assert read_all(PieceSource(mirrors, len(DATA), pieces(algorithm))) == DATA
    assert (mirrors.sent_bytes, mirrors.asked) == (len(DATA), [])


def test_only_the_damaged_piece_is_fetched_again() -> None:
    mirrors = Mirrors({250}, set())
    assert read_all(PieceSource(mirrors, len(DATA), pieces())) == DATA
    assert mirrors.asked == [200]
    assert mirrors.sent_bytes == len(DATA) + LENGTH


def test_the_last_and_shorter_piece_is_checked_too() -> None:
    mirrors = Mirrors({len(DATA) - 1}, set())
    assert read_all(PieceSource(mirrors, len(DATA), pieces())) == DATA
    assert mirrors.asked == [1000]


def test_mirrors_that_are_damaged_at_different_places_make_one_good_file() -> None:
    mirrors = Mirrors({0, 950}, {350}, {360, 810})
    assert read_all(PieceSource(mirrors, len(DATA), pieces())) == DATA


def test_a_piece_that_is_damaged_everywhere_ends_the_transfer_before_it_is_used() -> None:
    mirrors = Mirrors({250})
    source = PieceSource(mirrors, len(DATA), pieces())
    buffer, out = memoryview(bytearray(64)), b""
    with pytest.raises(TransferError) as failed:
        while length := source.read_into(buffer):
            out += buffer[:length]
    assert failed.value.code is TransferFailure.PIECE_DAMAGED
    assert out == DATA[:200]
    assert mirrors.asked == [200] * (MAX_ATTEMPTS - 1)


def test_a_piece_that_a_journal_has_begun_is_not_checked() -> None:
    mirrors = Mirrors({250, 350}, set(), start=230)
    read = read_all(PieceSource(mirrors, len(DATA), pieces()))
    assert read[:20] == bytes(DATA[230:250])
    assert read[20] == DATA[250] ^ 1, "the digest of the whole file finds this one"
    assert read[21:] == DATA[251:]
    assert mirrors.asked == [300]


@given(
    st.lists(st.sets(st.integers(0, len(DATA) - 1), max_size=5), min_size=1, max_size=3),
    st.integers(1, 300),
    st.integers(1, 150),
)
def test_no_damage_gets_through(damaged: list[set[int]], count: int, step: int) -> None:
    source = PieceSource(Mirrors(*damaged, set(), step=step), len(DATA), pieces())
    assert read_all(source, count) == DATA
