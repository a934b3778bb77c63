# SPDX-License-Identifier: Apache-2.0
"""A recorded console connection: what its browser gets is recorded, and players get places to begin at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from systemvm.cpvm.console_connection import OpenedTarget
from systemvm.cpvm.recording import recorder as module
from systemvm.cpvm.target_stream import PlainStream
from systemvm.cpvm.vnc_target import VncConnection
from systemvm.wire.recording import RecordingEnd
from unit.cpvm.recording.test_recorder import REQUEST, SCREEN, Session, played, update
from unit.cpvm.test_console_connection import Harness, masked

HANDSHAKE = masked(0x82, b"RFB 003.008\n\x01\x01")


@pytest.fixture
def harness() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.screen.close()
    harness.far_screen.close()


def connect(harness: Harness, session: Session, early: bytes = b"") -> None:
    harness.admit()
    screen = VncConnection(PlainStream(harness.screen), SCREEN, early)
    harness.opening.callback(OpenedTarget("web", screen, recorder=session.recorder))
    harness.connection.received(HANDSHAKE)
    harness.connection.received(masked(0x82, REQUEST))
    assert harness.far_screen.recv(100) == REQUEST


def show(harness: Harness, data: bytes) -> None:
    harness.far_screen.sendall(data)
    for reader in set(harness.reactor.readers):
        reader.doRead()


def test_what_the_browser_gets_is_recorded_until_its_connection_ends(
    harness: Harness, tmp_path: Path
) -> None:
    session = Session(tmp_path)
    connect(harness, session, early=update(1))
    show(harness, update(2))
    assert update(2) in b"".join(harness.browser.sent)
    harness.connection.close(1000)
    assert session.ends == [RecordingEnd.COMPLETE]
    assert played(session.reader(), -1) == update(1) + update(2)


def test_a_screen_that_changes_is_asked_for_the_whole_from_time_to_time(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYFRAME_EACH_BYTES", 50)
    session = Session(tmp_path)
    connect(harness, session)
    harness.connection.tick()
    show(harness, update(1, 2, 2) * 3)
    harness.connection.tick()
    assert harness.far_screen.recv(100) == b"\x03\0" + bytes(4) + b"\0\4\0\2"
    show(harness, update(2))
    harness.far_screen.setblocking(False)
    harness.connection.tick()
    with pytest.raises(BlockingIOError):
        harness.far_screen.recv(1)
