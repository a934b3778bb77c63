# SPDX-License-Identifier: Apache-2.0
"""Runs the recorder's process: the agent starts it, with the shared log as a descriptor and two pipes.

It has a connection of its own to the daemon, by the agent's identity, so that delivering recordings takes
nothing from the process that relays consoles.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, cast


def main(arguments: list[str] | None = None) -> int:
    """Run until standard input ends: with the agent, or before its end."""
    parser = argparse.ArgumentParser(prog="systemvm-recorder")
    parser.add_argument("--root", required=True)
    parser.add_argument("--log", type=int, required=True, help="the descriptor of the shared log")
    options = parser.parse_args(arguments)

    from systemvm.service import direct_epoll

    direct_epoll.install()
    from twisted.internet import protocol, reactor
    from twisted.internet.stdio import StandardIO

    from systemvm.cpvm.recording.connection import RecorderConnection
    from systemvm.cpvm.recording.messages import AT_ONCE, RecorderNotice
    from systemvm.cpvm.recording.recorder_process import RecorderProcess
    from systemvm.cpvm.recording.shared_log import SharedLog
    from systemvm.guest.paths import GuestPaths
    from systemvm.service.journal import begin_logging
    from systemvm.service.monotonic_clock import use_monotonic_clock

    use_monotonic_clock(reactor)
    begin_logging("systemvm-recorder", os.environ)
    paths = GuestPaths.from_environment(options.root, os.environ)
    directory = paths.recordings
    lock = _locked(directory)
    connection = RecorderConnection(reactor, paths)
    log = SharedLog(options.log)

    class Pipes(protocol.Protocol):
        transport: Any

        def connectionMade(self) -> None:
            recorder.recover()
            recorder.look(at_once=True)

        def dataReceived(self, data: bytes) -> None:
            recorder.look(at_once=AT_ONCE in data)

        def connectionLost(self, reason: object = None) -> None:
            if reactor.running:
                reactor.stop()

    pipes = Pipes()

    def notify(notice: RecorderNotice) -> None:
        pipes.transport.write(notice.encode())

    recorder = RecorderProcess(reactor, log, directory, connection.call, notify, time.time)
    reactor.addSystemEventTrigger("before", "shutdown", recorder.stop)
    reactor.addSystemEventTrigger("before", "shutdown", connection.stop)
    connection.start()
    StandardIO(pipes)
    # a stop of the unit signals all of its processes; this one ends after the agent, whose sessions end first
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    cast(Any, reactor).run(installSignalHandlers=False)
    os.close(lock)
    return 0


def _locked(directory: Path) -> int:
    """Wait until the recorder of a killed agent has written what it had; return the lock's descriptor."""
    directory.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


if __name__ == "__main__":
    sys.exit(main())
