# SPDX-License-Identifier: Apache-2.0
"""The recorder's process as the agent sees it: it is told to look at the log, and sends notices."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.cpvm.recording.messages import AT_ONCE, SOON, RecorderNotice
from systemvm.guest.paths import GuestPaths

_LOG_DESCRIPTOR = 3
#: The agent's own modules, wherever they are.
_START = (
    "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); "
    "from systemvm.cpvm.recording.recorder_main import main; sys.exit(main())"
)
#: Of the agent's environment, what is meant for the agent alone.
_OWN = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class RecorderLink(Protocol):
    """A recorder that runs."""

    def look(self, *, at_once: bool) -> None:
        """Have it read the log."""

    def stop(self) -> Deferred[None]:
        """Have it end; fires when it has."""

    def kill(self) -> None:
        """End one that hangs."""


Spawn = Callable[[int, Callable[[RecorderNotice], None], Callable[[], None]], RecorderLink]


class RecorderChild(ProcessProtocol):
    """A child process; `on_notice` gets its notices, and `on_end` is called when it has ended."""

    log = Logger()
    transport: Any  # IProcessTransport, once the process runs

    def __init__(self, on_notice: Callable[[RecorderNotice], None], on_end: Callable[[], None]) -> None:
        self._on_notice = on_notice
        self._on_end = on_end
        self._rest = b""
        self._stopped: list[Deferred[None]] = []
        self._is_ended = False

    def look(self, *, at_once: bool) -> None:
        if not self._is_ended:
            self.transport.writeToChild(0, AT_ONCE if at_once else SOON)

    def stop(self) -> Deferred[None]:
        stopped: Deferred[None] = Deferred()
        if self._is_ended:
            stopped.callback(None)
        else:
            self._stopped.append(stopped)
            self.transport.closeStdin()
        return stopped

    def kill(self) -> None:
        if not self._is_ended:
            self.transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_notice(RecorderNotice.decode(line))

    def processEnded(self, reason: Failure) -> None:
        self._is_ended = True
        if not self._stopped:
            self.log.error("recorder ended: {why}", why=reason.getErrorMessage())
        stopped, self._stopped = self._stopped, []
        for each in stopped:
            each.callback(None)
        self._on_end()


def spawn_with(reactor: Any, paths: GuestPaths) -> Spawn:
    """Return what starts the recorder of an agent."""

    def spawn(
        log_descriptor: int, on_notice: Callable[[RecorderNotice], None], on_end: Callable[[], None]
    ) -> RecorderLink:
        child = RecorderChild(on_notice, on_end)
        arguments = [sys.executable, "-IS", "-c", _START, "\n".join(sys.path)]
        options = ["--root", str(paths.root), "--log", str(_LOG_DESCRIPTOR)]
        environment = {name: value for name, value in os.environ.items() if name not in _OWN}
        reactor.spawnProcess(
            child,
            sys.executable,
            arguments + options,
            env=environment,
            childFDs={0: "w", 1: "r", 2: 2, _LOG_DESCRIPTOR: log_descriptor},
        )
        return child

    return spawn
