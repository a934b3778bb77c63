# SPDX-License-Identifier: Apache-2.0
"""The recorder's process: makes recordings of what the agent writes to the shared log, and delivers them.

It reads the log some time after an entry was written, so that the agent's relay pays for writing memory and
nothing else. When the agent ends or is killed, it reads the rest, leaves it in the spool, and ends; the next
one delivers that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from systemvm.cpvm.filter.faults import FilterError
from systemvm.cpvm.recording.messages import RecorderNotice, RecordingBegin
from systemvm.cpvm.recording.recorder import SessionRecorder
from systemvm.cpvm.recording.shared_log import EntryKind, LogEntry, SharedLog
from systemvm.cpvm.recording.spool import RecordingSpool
from systemvm.cpvm.recording.uploads import DaemonCaller, RecordingUploads
from systemvm.wire.recording import RecordingEnd

#: What is written within this time after a call to look is read together.
READ_EACH_S = 1.0
#: As many entries are read in one turn of the reactor.
_ENTRIES_AT_ONCE = 256
_WATCH_EACH_S = 1.0


class RecorderProcess:
    """The recordings of one agent; `notify` gets what the agent must know."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        log: SharedLog,
        directory: Path,
        call: DaemonCaller,
        notify: Callable[[RecorderNotice], None],
        unix_s: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._shared = log
        self._notify = notify
        self._unix_s = unix_s
        self._spool = RecordingSpool(directory)
        self._uploads = RecordingUploads(reactor, self._spool, call, self._refused)
        self._recorders: dict[int, SessionRecorder] = {}
        self._reading: IDelayedCall | None = None
        self._quiet_until_s = 0.0  # until then the agent writes without calling again
        self._watching: IDelayedCall | None = None

    def recover(self) -> None:
        """Deliver what a recorder before this one has left."""
        self._uploads.recover()

    def look(self, *, at_once: bool) -> None:
        """Read the log soon, or at once, and again after `READ_EACH_S`: until then nobody calls for more."""
        self._quiet_until_s = self._reactor.seconds() + READ_EACH_S
        reading = self._reading
        if reading is not None and reading.active():
            if not at_once:
                return
            reading.cancel()
        self._reading = self._reactor.callLater(0 if at_once else READ_EACH_S, self._read)

    def stop(self) -> None:
        """Read what the agent has left, and leave everything in the spool."""
        for call in (self._reading, self._watching):
            if call is not None and call.active():
                call.cancel()
        for entry in self._shared.take(self._shared.end):
            self._handle(entry)
        self._uploads.stop()

    def _read(self) -> None:
        self._reading = None
        end = self._shared.end
        for count, entry in enumerate(self._shared.take(end), 1):
            self._handle(entry)
            if count == _ENTRIES_AT_ONCE:
                self._reading = self._reactor.callLater(0, self._read)
                break
        else:
            left_s = self._quiet_until_s - self._reactor.seconds()
            if left_s > 0:
                self._reading = self._reactor.callLater(left_s, self._read)
        self._watch()

    def _handle(self, entry: LogEntry) -> None:
        if entry.kind is EntryKind.BEGIN:
            self._begin(entry)
            return
        recorder = self._recorders.get(entry.number)
        if recorder is None:
            return
        if entry.kind is EntryKind.SERVER:
            recorder.server(entry.time_ms, entry.content)
        elif entry.kind is EntryKind.FORMAT:
            recorder.set_format(entry.content[:-1], bool(entry.content[-1]))
        elif entry.kind is EntryKind.END:
            recorder.end(entry.time_ms)

    def _begin(self, entry: LogEntry) -> None:
        begin = RecordingBegin.decode(entry.content)
        number, recording_id = entry.number, begin.order.recording_id

        def ended(recorder: SessionRecorder, end: RecordingEnd) -> None:
            self._recorders.pop(number, None)
            self.log.info("recording {recording} ends: {end}", recording=recording_id, end=end.value)
            self._notify(RecorderNotice(number, "ended", end.value))

        def gap(recorder: SessionRecorder, is_open: bool) -> None:
            what = "there is no room" if is_open else "it goes on"
            self.log.info("recording {recording}: {what}", recording=recording_id, what=what)
            self._notify(RecorderNotice(number, "gap" if is_open else "resumed"))

        try:
            recorder = SessionRecorder(begin, self._spool, self._unix_ms_at, ended, gap)
        except FilterError:
            self._notify(RecorderNotice(number, "ended", RecordingEnd.UNREADABLE.value))
            return
        self._recorders[number] = recorder
        recorder.begin()

    def _unix_ms_at(self, time_ms: int) -> int:
        return int(self._unix_s() * 1000) - self._now_ms() + time_ms

    def _now_ms(self) -> int:
        return int(self._reactor.seconds() * 1000)

    def _watch(self) -> None:
        """Ask for the screens that players need as a whole; nothing wakes while all screens stand still."""
        now_ms = self._now_ms()
        for number, recorder in self._recorders.items():
            size = recorder.wanted_size(now_ms)
            if size is not None:
                self._notify(RecorderNotice(number, "full_update", "", *size))
        is_due = any(recorder.is_watched for recorder in self._recorders.values())
        if is_due and (self._watching is None or not self._watching.active()):
            self._watching = self._reactor.callLater(_WATCH_EACH_S, self._watch)

    def _refused(self, recording_id: str) -> None:
        for recorder in list(self._recorders.values()):
            if recorder.order.recording_id == recording_id:
                recorder.end(self._now_ms(), RecordingEnd.REFUSED)
