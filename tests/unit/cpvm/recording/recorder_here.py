# SPDX-License-Identifier: Apache-2.0
"""The recordings of an agent whose recorder runs in the same process, on the same clock."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed

from systemvm.cpvm.recording.console_recordings import ConsoleRecordings
from systemvm.cpvm.recording.messages import RecorderNotice
from systemvm.cpvm.recording.recorder_link import RecorderLink
from systemvm.cpvm.recording.recorder_process import RecorderProcess
from systemvm.cpvm.recording.shared_log import SharedLog


class RecorderHere:
    """A link to a recorder of this process; while `is_hung` it does not look."""

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        call: Any,
        log_descriptor: int,
        on_notice: Callable[[RecorderNotice], None],
        on_end: Callable[[], None],
    ) -> None:
        self.is_hung = False
        self.is_killed = False
        self.on_end = on_end
        self._on_notice = on_notice
        log = SharedLog(os.dup(log_descriptor))
        self.process = RecorderProcess(reactor, log, directory, call, self._notify, lambda: 1_700_000_000.0)
        directory.mkdir(exist_ok=True)
        self.process.recover()

    def _notify(self, notice: RecorderNotice) -> None:
        self._on_notice(RecorderNotice.decode(notice.encode()))

    def look(self, *, at_once: bool) -> None:
        if not self.is_hung:
            self.process.look(at_once=at_once)

    def stop(self) -> Deferred[None]:
        self.process.stop()
        return succeed(None)

    def kill(self) -> None:
        self.is_killed = True


class Recordings:
    """An agent's recordings, and the links to the recorders that it has started."""

    def __init__(self, reactor: Any, directory: Path, call: Any) -> None:
        self.links: list[RecorderHere] = []

        def spawn(
            log_descriptor: int, on_notice: Callable[[RecorderNotice], None], on_end: Callable[[], None]
        ) -> RecorderLink:
            self.links.append(RecorderHere(reactor, directory, call, log_descriptor, on_notice, on_end))
            return self.links[-1]

        self.recordings = ConsoleRecordings(reactor, directory, spawn)
