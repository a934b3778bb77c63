# SPDX-License-Identifier: Apache-2.0
"""The recordings of a CPVM: those that run, and those that are still being stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from systemvm.cpvm.recording.recorder import SessionRecorder
from systemvm.cpvm.recording.spool import RecordingSpool
from systemvm.cpvm.recording.uploads import DaemonCaller, RecordingUploads
from systemvm.cpvm.rfb import ServerInit
from systemvm.wire.console import ConsolePolicy
from systemvm.wire.recording import RecordingEnd, RecordingOrder


class ConsoleRecordings:
    """Makes recorders, and stores what they record."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        call: DaemonCaller,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._unix_s = unix_s
        self._spool = RecordingSpool(directory)
        self._uploads = RecordingUploads(reactor, self._spool, call, self._refused)
        self._recorders: dict[str, SessionRecorder] = {}

    def recover(self) -> None:
        """Store what an agent before this one has left."""
        self._uploads.recover()

    def recorder(
        self,
        order: RecordingOrder,
        policy: ConsolePolicy,
        screen: ServerInit,
        on_end: Callable[[RecordingEnd], None],
    ) -> SessionRecorder:
        """Return the recorder of a connection; `on_end` is called later, never by the recorder's methods."""

        def ended(recorder: SessionRecorder, end: RecordingEnd) -> None:
            self._recorders.pop(order.recording_id, None)
            self.log.info("recording {recording} ends: {end}", recording=order.recording_id, end=end.value)
            self._reactor.callLater(0, on_end, end)

        recorder = SessionRecorder(
            order, policy, screen, self._spool, self._reactor.seconds, self._unix_s, ended
        )
        self._recorders[order.recording_id] = recorder
        recorder.begin()
        return recorder

    def stop(self) -> None:
        self._uploads.stop()

    def _refused(self, recording_id: str) -> None:
        recorder = self._recorders.get(recording_id)
        if recorder is not None:
            recorder.end(RecordingEnd.REFUSED)
