# SPDX-License-Identifier: Apache-2.0
"""The recordings of a CPVM, in the agent: what browsers get is written to a log that the recorder reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from systemvm.cpvm.recording.messages import RecorderNotice, RecordingBegin
from systemvm.cpvm.recording.recorder_link import RecorderLink, Spawn
from systemvm.cpvm.recording.recorder_process import READ_EACH_S
from systemvm.cpvm.recording.shared_log import MAX_CONTENT_BYTES, EntryKind, ReadInto, SharedLog
from systemvm.cpvm.recording.tap import RecordingTap
from systemvm.cpvm.rfb import ServerInit
from systemvm.service.slowness import scaled_s
from systemvm.wire.console import ConsoleKind, ConsolePolicy
from systemvm.wire.recording import RecordingEnd, RecordingOrder

#: How often those who wait for room look for it.
ROOM_EACH_S = 0.01
#: A recorder that has read nothing for so long hangs.
HANGS_AFTER_S = 10.0
STOP_DEADLINE_S = 5.0
FIRST_RESTART_S, LONGEST_RESTART_S = 1.0, 60.0


class ConsoleRecordings:
    """Makes the taps of recorded connections.

    The recorder starts with the first of them, or to deliver what an agent before this one has left.
    """

    log = Logger()

    def __init__(self, reactor: Any, directory: Path, spawn: Spawn) -> None:
        self._reactor = reactor
        self._directory = directory
        self._spawn = spawn
        self._log: SharedLog | None = None
        self._link: RecorderLink | None = None
        self._taps: dict[int, RecordingTap] = {}
        self._numbers = 0
        self._waiting: list[Callable[[], None]] = []  # for room
        self._waiting_call: IDelayedCall | None = None
        self._unread = (0, 0.0)  # how much the recorder had to read, and since when
        self._restart_s = FIRST_RESTART_S
        self._restart: IDelayedCall | None = None
        self._is_stopping = False

    def recover(self) -> None:
        """Have what an agent before this one has left delivered."""
        if self._directory.is_dir() and any(self._directory.iterdir()):
            self._start()

    def tap(
        self,
        order: RecordingOrder,
        policy: ConsolePolicy,
        screen: ServerInit | None,
        on_end: Callable[[RecordingEnd], None],
        on_gap: Callable[[bool], None] = lambda is_open: None,
    ) -> RecordingTap:
        """Return the tap of a connection, of a serial port without a screen.

        `on_end` and `on_gap` are called later, never by the tap's methods.
        """
        self._numbers += 1
        tap = RecordingTap(self, self._numbers, policy, screen, on_end, on_gap)
        self._taps[tap.number] = tap
        self._start()
        if screen is None:
            begin = RecordingBegin(order, ConsoleKind.SERIAL)
        else:
            size = (screen.width_px, screen.height_px)
            begin = RecordingBegin(order, ConsoleKind.SCREEN, *size, screen.pixel_format)
        self.write(EntryKind.BEGIN, tap.number, begin.encode())
        return tap

    # -- for the taps

    def write(self, kind: EntryKind, number: int, content: bytes | memoryview) -> None:
        """Write an entry; the recording ends when there is no room for it."""
        log, now_s = self._log, self._reactor.seconds()
        for part in _parts(content):
            if log is None or not log.append(kind, number, now_s, part):
                self._end(number, RecordingEnd.SPOOL_FAILED)
                return
        if log is not None and now_s >= log.quiet_until_s:
            self._look(log, at_once=kind is EntryKind.BEGIN)

    def copying(self, number: int, read_into: ReadInto, must_wait: Callable[[], bool]) -> ReadInto:
        """Return a `read_into` that writes what it has read from a screen, unread."""
        if self._log is None:
            return read_into

        def write(content: memoryview) -> None:
            self.write(EntryKind.SERVER, number, content)

        return self._log.copying(read_into, number, self._reactor.seconds, must_wait, write)

    @property
    def is_pressed(self) -> bool:
        """Return whether the recorder is behind: nothing is to be read from recorded screens."""
        return self._log is not None and self._log.is_pressed

    def end(self, number: int) -> None:
        """End a recording with its connection."""
        if self._taps.pop(number, None) is not None:
            self.write(EntryKind.END, number, b"")

    def wait_for_room(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` when the recorder has read enough."""
        self._waiting.append(go_on)
        if self._waiting_call is None and self._log is not None:
            self._look(self._log, at_once=True)
            self._unread = (self._log.waiting_bytes, self._reactor.seconds())
            self._waiting_call = self._reactor.callLater(ROOM_EACH_S, self._find_room)

    def _find_room(self) -> None:
        self._waiting_call = None
        log, now_s = self._log, self._reactor.seconds()
        if log is not None and log.look_at_reader():
            unread, since_s = self._unread
            if log.waiting_bytes < unread:
                self._unread = (log.waiting_bytes, now_s)
            elif now_s - since_s > scaled_s(HANGS_AFTER_S):
                self.log.error("recorder hangs and is killed")
                self._give_up()
                return
            self._waiting_call = self._reactor.callLater(ROOM_EACH_S, self._find_room)
            return
        self._release()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    # -- the recorder

    def _start(self) -> None:
        if self._link is not None or self._is_stopping:
            return
        if self._restart is not None and self._restart.active():
            self._restart.cancel()
        try:
            self._log = SharedLog.create()
            self._link = self._spawn(self._log.descriptor, self._notice, self._recorder_ended)
        except OSError as error:
            self.log.error("recorder cannot be started: {why}", why=str(error))
            self._drop_log()

    def _look(self, log: SharedLog, *, at_once: bool) -> None:
        log.quiet_until_s = self._reactor.seconds() + READ_EACH_S
        if self._link is not None:
            self._link.look(at_once=at_once)

    def _notice(self, notice: RecorderNotice) -> None:
        tap = self._taps.get(notice.number)
        if notice.what == "ended":
            self._restart_s = FIRST_RESTART_S
            self._end(notice.number, _parsed(notice.code))
        elif tap is not None and notice.what == "full_update":
            tap.ask_for_all(notice.width_px, notice.height_px)
        elif tap is not None:
            tap.on_gap(notice.what == "gap")

    def _end(self, number: int, end: RecordingEnd) -> None:
        tap = self._taps.pop(number, None)
        if tap is not None:
            tap.stop()
            self._reactor.callLater(0, tap.on_end, end)

    def _recorder_ended(self) -> None:
        self._give_up(is_dead=True)

    def _give_up(self, *, is_dead: bool = False) -> None:
        """End all recordings that run: their recorder is lost, with what it had not read."""
        link, self._link = self._link, None
        if link is None:
            return
        if not is_dead:
            link.kill()
        self._drop_log()
        for number in list(self._taps):
            self._end(number, RecordingEnd.INTERRUPTED)
        self._release()
        if not self._is_stopping:
            self._restart = self._reactor.callLater(self._restart_s, self.recover)
            self._restart_s = min(LONGEST_RESTART_S, 2 * self._restart_s)

    def _drop_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()

    def stop(self) -> Deferred[None]:
        """Have the recorder write what it has, and end; the spool keeps what is left."""
        self._is_stopping = True
        for call in (self._restart, self._waiting_call):
            if call is not None and call.active():
                call.cancel()
        if self._link is None:
            return succeed(None)
        stopped = self._link.stop()
        stopped.addTimeout(STOP_DEADLINE_S, self._reactor)
        stopped.addErrback(lambda _: None)  # it goes on without the agent
        return stopped


def _parts(content: bytes | memoryview) -> Iterator[bytes | memoryview]:
    for at in range(0, max(1, len(content)), MAX_CONTENT_BYTES):
        yield content[at : at + MAX_CONTENT_BYTES]


def _parsed(code: str) -> RecordingEnd:
    try:
        return RecordingEnd(code)
    except ValueError:
        return RecordingEnd.INTERRUPTED
