# SPDX-License-Identifier: Apache-2.0
"""The spool of recordings: pieces in order, bounds, and what survives a kill of the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemvm.cpvm.recording import spool as module
from systemvm.cpvm.recording.spool import RecordingSpool, SpoolFullError
from systemvm.wire.recording import MAX_PIECE_BYTES, RecordingEnd

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def drained(spool: RecordingSpool, recording_id: str) -> bytes:
    """Take everything as the uploads do, and check that the pieces join."""
    content = b""
    while (piece := spool.oldest(recording_id)) is not None:
        assert piece.offset == len(content) and len(piece.data) <= MAX_PIECE_BYTES
        content += piece.data
        spool.remove(piece)
    return content


def test_pieces_join_to_what_was_recorded(tmp_path: Path) -> None:
    spool = RecordingSpool(tmp_path / "spool")
    spool.begin(ONE)
    parts = [b"a", b"b" * (MAX_PIECE_BYTES - 1), b"c" * (2 * MAX_PIECE_BYTES + 5), b"", b"d"]
    for part in parts:
        spool.append(ONE, part)
    assert spool.bytes_kept == sum(map(len, parts))
    assert drained(spool, ONE) == b"".join(parts)
    assert spool.bytes_kept == 0
    spool.forget(ONE)
    assert not list((tmp_path / "spool").iterdir())


def test_a_piece_that_is_taken_grows_no_more(tmp_path: Path) -> None:
    spool = RecordingSpool(tmp_path)
    spool.begin(ONE)
    spool.append(ONE, b"first")
    taken = spool.oldest(ONE)
    spool.append(ONE, b"second")
    assert taken is not None and spool.oldest(ONE) == taken
    spool.remove(taken)
    following = spool.oldest(ONE)
    assert following is not None and (following.offset, following.data) == (5, b"second")


def test_what_a_killed_agent_has_left_is_found(tmp_path: Path) -> None:
    killed = RecordingSpool(tmp_path)
    for recording_id in (ONE, TWO):
        killed.begin(recording_id)
        killed.append(recording_id, b"x" * (MAX_PIECE_BYTES + 1))
    killed.end(TWO, RecordingEnd.TOO_LONG)
    (tmp_path / "33333333-3333-4333-8333-333333333333.000000000000000").write_bytes(b"of a forgotten one")
    spool = RecordingSpool(tmp_path)
    assert spool.recover() == {ONE: RecordingEnd.INTERRUPTED, TWO: RecordingEnd.TOO_LONG}
    assert spool.bytes_kept == 2 * (MAX_PIECE_BYTES + 1)
    assert drained(spool, ONE) == drained(spool, TWO) == b"x" * (MAX_PIECE_BYTES + 1)
    spool.forget(ONE)
    spool.forget(TWO)
    assert not list(tmp_path.iterdir())


def test_one_recording_leaves_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORDING_BYTES", 100)
    spool = RecordingSpool(tmp_path, max_bytes=150)
    spool.begin(ONE)
    spool.begin(TWO)
    spool.append(ONE, bytes(100))
    with pytest.raises(SpoolFullError):
        spool.append(ONE, b"x")
    spool.append(TWO, bytes(50))
    with pytest.raises(SpoolFullError):
        spool.append(TWO, b"x")
    spool.append(ONE, b"the last frame", is_last=True)
    assert drained(spool, ONE) == bytes(100) + b"the last frame"
    spool.append(TWO, b"x")


def test_each_change_is_announced(tmp_path: Path) -> None:
    spool, changed = RecordingSpool(tmp_path), list[str]()
    spool.on_change = changed.append
    spool.begin(ONE)
    spool.append(ONE, b"x")
    spool.end(ONE, RecordingEnd.COMPLETE)
    spool.end(ONE, RecordingEnd.REFUSED)  # the first reason holds
    assert changed == [ONE] * 3 and spool.end_of(ONE) is RecordingEnd.COMPLETE
