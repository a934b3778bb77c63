# SPDX-License-Identifier: Apache-2.0
"""A recorded console connection: what its browser gets is recorded, and its relay waits for nobody long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.python.failure import Failure

from systemvm.cpvm.console_connection import OpenedTarget
from systemvm.cpvm.recording import console_recordings, shared_log
from systemvm.cpvm.recording import recorder as recorder_module
from systemvm.cpvm.recording.recorder_process import READ_EACH_S
from systemvm.cpvm.serial_output import KEPT_BYTES
from systemvm.cpvm.serial_port import SerialPort
from systemvm.cpvm.target_stream import PlainStream
from systemvm.cpvm.vnc_target import VncConnection
from systemvm.recording.format import RecordingKind
from systemvm.recording.reader import RecordingReader
from systemvm.wire.console import UNRESTRICTED, ConsoleKind
from systemvm.wire.recording import RecordingEnd, RecordingOrder
from unit.cpvm.connection_harness import Harness, masked
from unit.cpvm.recording.receiving_daemon import Daemon
from unit.cpvm.recording.recorded_updates import ID, REQUEST, SCREEN, played, update
from unit.cpvm.recording.recorder_here import Recordings

HANDSHAKE = masked(0x82, b"RFB 003.008\n\x01\x01")


class Recorded:
    """A connection with a tap, its recorder and the daemon behind it."""

    def __init__(
        self, harness: Harness, directory: Path, early: bytes = b"", history: bytes | None = None
    ) -> None:
        """With `history`, that of a serial port."""
        self.harness, self.daemon = harness, Daemon()
        self.ends: list[RecordingEnd] = []
        self.made = Recordings(harness.reactor, directory / "spool", self.daemon.call)
        order = RecordingOrder(ID, "web-1", 1 << 30)
        screen_init = SCREEN if history is None else None
        tap = self.made.recordings.tap(order, UNRESTRICTED, screen_init, self.ends.append)
        if history is not None:
            harness.admit(ConsoleKind.SERIAL)
            port = SerialPort(harness.reactor, PlainStream(harness.screen), history, lambda port: None)
            port.start()
            harness.opening.callback(OpenedTarget("web", None, tap=tap, serial=port))
            return
        harness.admit()
        screen = VncConnection(PlainStream(harness.screen), SCREEN, early)
        harness.opening.callback(OpenedTarget("web", screen, tap=tap))
        harness.connection.received(HANDSHAKE)
        harness.connection.received(masked(0x82, REQUEST))
        assert harness.far_screen.recv(100) == REQUEST

    @property
    def link(self) -> Any:
        return self.made.links[-1]

    def show(self, data: bytes) -> None:
        self.harness.far_screen.sendall(data)
        self.turn()

    def turn(self) -> None:
        for reader in set(self.harness.reactor.readers):
            reader.doRead()

    def shown(self) -> bytes:
        return b"".join(self.harness.browser.sent)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.05)):
            self.harness.reactor.advance(0.05)

    def reader(self) -> RecordingReader:
        content = self.daemon.content
        return RecordingReader(lambda offset, count: content[offset : offset + count], len(content))


@pytest.fixture
def harness() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.screen.close()
    harness.far_screen.close()


def test_what_the_browser_gets_is_recorded_until_its_connection_ends(
    harness: Harness, tmp_path: Path
) -> None:
    recorded = Recorded(harness, tmp_path, early=update(1))
    recorded.show(update(2))
    assert update(2) in recorded.shown()
    harness.connection.close(1000)
    recorded.pass_time(2)
    assert recorded.ends == []  # it ended as expected
    assert [end.code for end in recorded.daemon.ends] == ["complete"]
    assert recorded.reader().is_ended and played(recorded.reader(), -1) == update(1) + update(2)


def test_the_recorder_is_woken_once_for_much_and_not_while_the_screen_stands_still(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = Recorded(harness, tmp_path)
    recorded.pass_time(2)
    looks: list[bool] = []
    monkeypatch.setattr(recorded.link, "look", lambda *, at_once: looks.append(at_once))
    for number in range(5):
        recorded.show(update(number))
    assert looks == [False]
    recorded.pass_time(READ_EACH_S + 0.1)
    recorded.show(update(9))
    assert looks == [False, False]
    recorded.pass_time(3600)
    assert looks == [False, False]


def test_a_screen_that_changes_is_asked_for_the_whole_from_time_to_time(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "KEYFRAME_EACH_BYTES", 50)
    recorded = Recorded(harness, tmp_path)
    recorded.show(update(1, 2, 2) * 3)
    recorded.pass_time(2)
    assert harness.far_screen.recv(100) == b"\x03\0" + bytes(4) + b"\0\4\0\2"
    recorded.show(update(2))
    recorded.pass_time(60)
    with pytest.raises(BlockingIOError):
        harness.far_screen.recv(1)


def test_a_screen_that_is_faster_than_its_recorder_waits_for_it(harness: Harness, tmp_path: Path) -> None:
    recorded = Recorded(harness, tmp_path)
    recorded.pass_time(2)  # what came before is read
    recorded.link.is_hung = True
    many = shared_log.CAPACITY_BYTES // 2 // len(update(1)) + 10
    sent = 0
    while sent < many and harness.reactor.readers:
        recorded.show(update(sent % 250))
        sent += 1
    assert harness.reactor.readers == set(), "the screen is not read any more"
    recorded.link.is_hung = False
    recorded.link.look(at_once=True)
    recorded.pass_time(2)
    assert harness.reactor.readers
    recorded.turn()
    harness.connection.close(1000)
    recorded.pass_time(2)
    # nothing is missing
    assert played(recorded.reader(), -1) == b"".join(update(number % 250) for number in range(sent))


def test_a_recorder_that_hangs_is_killed_and_the_console_goes_on(harness: Harness, tmp_path: Path) -> None:
    recorded = Recorded(harness, tmp_path)
    recorded.pass_time(2)  # what came before is read
    recorded.link.is_hung = True
    while harness.reactor.readers:
        recorded.show(update(1))
    hung = recorded.link
    recorded.pass_time(console_recordings.HANGS_AFTER_S * 40)  # a machine can count as slow
    assert hung.is_killed and recorded.ends == [RecordingEnd.INTERRUPTED]
    recorded.show(update(77))
    assert update(77) in recorded.shown()


def test_a_recorder_that_is_killed_is_replaced_by_one_that_delivers_the_rest(
    harness: Harness, tmp_path: Path
) -> None:
    recorded = Recorded(harness, tmp_path)
    recorded.show(update(1))
    recorded.pass_time(READ_EACH_S + 0.1)  # it is in the spool, and not delivered
    recorded.link.process._uploads.stop()
    recorded.link.on_end()
    recorded.pass_time(10)
    assert recorded.ends == [RecordingEnd.INTERRUPTED] and len(recorded.made.links) == 2
    assert played(recorded.reader(), -1) == update(1)
    assert [end.code for end in recorded.daemon.ends] == ["interrupted"]


def frames(recorded: Recorded) -> bytes:
    return b"".join(frame.content for frame in recorded.reader().play())


def test_a_serial_port_is_recorded_with_what_it_had_written_before(harness: Harness, tmp_path: Path) -> None:
    recorded = Recorded(harness, tmp_path, history=b"kernel\r\n")
    recorded.show(b"login: ")
    assert recorded.ends == [] and b"login: " in recorded.shown()
    harness.connection.close(1000)
    recorded.pass_time(2)
    assert [end.code for end in recorded.daemon.ends] == ["complete"]
    assert recorded.reader().header.kind is RecordingKind.SERIAL
    assert frames(recorded) == b"kernel\r\nlogin: "


def test_a_connection_that_ends_right_after_its_beginning_is_recorded_to_its_end(
    harness: Harness, tmp_path: Path
) -> None:
    recorded = Recorded(harness, tmp_path, history=b"")
    recorded.pass_time(0.1)  # the recorder has read that it begins
    recorded.show(b"login: ")
    harness.connection.lost(Failure(Exception()))
    recorded.pass_time(2)
    assert [end.code for end in recorded.daemon.ends] == ["complete"]
    assert frames(recorded) == b"login: "


def test_a_serial_port_that_is_faster_than_its_recorder_skips_what_is_not_kept(
    harness: Harness, tmp_path: Path
) -> None:
    recorded = Recorded(harness, tmp_path, history=b"")
    recorded.pass_time(2)  # what came before is read
    recorded.link.is_hung = True
    line = b"x" * 998 + b"\r\n"
    for _ in range(shared_log.CAPACITY_BYTES // 2 // len(line) + 2 * KEPT_BYTES // len(line)):
        recorded.show(line)
    recorded.link.is_hung = False
    recorded.link.look(at_once=True)
    recorded.pass_time(2)
    recorded.show(b"the last line")
    harness.connection.close(1000)
    recorded.pass_time(2)
    assert [end.code for end in recorded.daemon.ends] == ["complete"]
    played_bytes = frames(recorded)
    assert b"bytes were skipped" in played_bytes and played_bytes.endswith(b"the last line")
