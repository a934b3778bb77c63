# SPDX-License-Identifier: Apache-2.0
"""How recordings get to the daemon: in order, again after a refusal that passes, and after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import Clock

from systemvm.cpvm.recording.spool import RecordingSpool
from systemvm.cpvm.recording.uploads import FIRST_RETRY_S, GATHER_S, RecordingUploads
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.recording import (
    MAX_PIECE_BYTES,
    RecordedEnd,
    RecordingEnd,
    RecordingRefusal,
)
from unit.cpvm.recording.receiving_daemon import Daemon

ID = "11111111-1111-4111-8111-111111111111"


class Upload:
    def __init__(
        self, directory: Path, on_refused: Callable[[str], None] = lambda recording_id: None
    ) -> None:
        self.clock, self.daemon = Clock(), Daemon()
        self.spool = RecordingSpool(directory)
        self.uploads = RecordingUploads(self.clock, self.spool, self.daemon.call, on_refused)


def test_a_recording_is_sent_while_it_grows(tmp_path: Path) -> None:
    upload = Upload(tmp_path)
    upload.spool.begin(ID)
    upload.spool.append(ID, b"one")
    assert upload.daemon.calls == 0
    upload.clock.advance(GATHER_S)
    assert upload.daemon.content == b"one"
    upload.spool.append(ID, b" and ")
    upload.spool.append(ID, b"two")
    upload.clock.advance(GATHER_S)
    assert upload.daemon.content == b"one and two" and upload.daemon.calls == 2
    assert upload.clock.getDelayedCalls() == []  # nothing wakes the agent while the screen stands still
    upload.spool.end(ID, RecordingEnd.COMPLETE)
    assert upload.daemon.ends == [RecordedEnd(ID, "complete")]
    assert not list(tmp_path.iterdir())


def test_a_whole_piece_is_sent_at_once_and_less_waits(tmp_path: Path) -> None:
    upload = Upload(tmp_path)
    upload.spool.begin(ID)
    upload.spool.append(ID, bytes(MAX_PIECE_BYTES + 7))
    assert upload.daemon.calls == 1 and len(upload.daemon.content) == MAX_PIECE_BYTES
    upload.spool.append(ID, b"more")
    upload.clock.advance(GATHER_S / 2)
    assert upload.daemon.calls == 1
    upload.clock.advance(GATHER_S / 2)
    assert upload.daemon.calls == 2 and len(upload.daemon.content) == MAX_PIECE_BYTES + 11


def test_a_store_that_is_away_is_tried_again(tmp_path: Path) -> None:
    upload = Upload(tmp_path)
    upload.daemon.refusal = RpcError.refused(RecordingRefusal.STORE_AWAY, "no SSVM is Up")
    upload.spool.begin(ID)
    upload.spool.append(ID, b"kept")
    upload.clock.advance(GATHER_S)
    upload.clock.advance(FIRST_RETRY_S)
    assert upload.daemon.calls == 2 and upload.spool.bytes_kept == 4
    upload.daemon.refusal = None
    upload.spool.end(ID, RecordingEnd.COMPLETE)
    upload.clock.advance(2 * FIRST_RETRY_S)
    assert upload.daemon.content == b"kept" and len(upload.daemon.ends) == 1


def test_a_recording_that_was_deleted_is_given_up(tmp_path: Path) -> None:
    refused: list[str] = []
    upload = Upload(tmp_path, refused.append)
    upload.daemon.refusal = RpcError.refused(RecordingRefusal.UNKNOWN, "recording was deleted")
    upload.spool.begin(ID)
    upload.spool.append(ID, b"unwanted")
    upload.clock.advance(GATHER_S)
    assert refused == [ID]
    assert upload.daemon.ends == [RecordedEnd(ID, "refused")]
    assert not list(tmp_path.iterdir()) and upload.spool.bytes_kept == 0


def test_a_restarted_agent_goes_on_with_what_is_left(tmp_path: Path) -> None:
    killed = Upload(tmp_path)
    killed.spool.begin(ID)
    killed.spool.append(ID, b"sent ")
    killed.clock.advance(GATHER_S)
    killed.spool.append(ID, b"left")
    upload = Upload(tmp_path)
    upload.daemon.content = killed.daemon.content
    upload.uploads.recover()
    upload.clock.advance(GATHER_S)
    assert upload.daemon.content == b"sent left"
    assert upload.daemon.ends == [RecordedEnd(ID, "interrupted")]
    assert not list(tmp_path.iterdir())


def test_a_stopped_agent_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    upload = Upload(tmp_path)
    upload.spool.begin(ID)
    upload.spool.append(ID, b"rest")
    upload.uploads.stop()
    upload.clock.advance(10)
    assert upload.daemon.calls == 0 and upload.clock.getDelayedCalls() == []
    assert RecordingSpool(tmp_path).recover() == {ID: RecordingEnd.INTERRUPTED}
