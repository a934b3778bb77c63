# SPDX-License-Identifier: Apache-2.0
"""Starts movers through a fork server, which is replaced when it has died."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.ssvm.limits import MIB
from systemvm.ssvm.mover_messages import (
    FORK_SERVER_FD,
    MAX_PACKET_BYTES,
    ForkServerReport,
    ForkServerRequest,
    decode_fork_report,
    encode,
)

#: It imports from the same places as fetch, and inherits nothing from the environment.
_PROGRAM = """import sys
sys.path[:] = sys.argv[1:]
from systemvm.ssvm.mover.forkserver import main
sys.exit(main())"""


#: How malloc is set for movers (mallopt(3)). One arena: each thread would keep free memory in one of its own.
#: The two thresholds keep the memory of a decoded piece, which is 1 MiB, for the next one: to return it to
#: the kernel and to have it zeroed again costs a gzip download a tenth of its time.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 * MIB),
    "MALLOC_TRIM_THRESHOLD_": str(4 * MIB),
}
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", **_MALLOC}


class HasDescriptor(Protocol):
    """A socket or an open file."""

    def fileno(self) -> int: ...


class MoverSpawner:
    """Starts all movers of this fetch."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._server: _ForkServerProcess | None = None

    def warm_up(self) -> None:
        """Start the fork server before the first mover is needed.

        Raises: OSError when it cannot be started.
        """
        self._running_server()

    def start(
        self, control: socket.socket, source: HasDescriptor, directory: int, on_end: Callable[[str], None]
    ) -> Callable[[], None]:
        """Start a mover with these descriptors, which the caller closes; return a function that kills it.

        `on_end` is called once, when it has ended, with a text that says how.

        Raises: OSError when there is no process for it.
        """
        descriptors = (control.fileno(), source.fileno(), directory)
        try:
            return self._running_server().start_mover(descriptors, on_end)
        except BrokenPipeError:  # it died, which the reactor has not reported yet
            self._server = None
            return self._running_server().start_mover(descriptors, on_end)

    def _running_server(self) -> _ForkServerProcess:
        if self._server is None or self._server.has_ended:
            self._server = _ForkServerProcess(self._reactor)
        return self._server


@implementer(IReadDescriptor)
class _ForkServerProcess(ProcessProtocol):
    """One process of the fork server; it sends its reports over a SOCK_SEQPACKET pair, one per packet."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._log = Logger(namespace="systemvm.ssvm.movers")
        self._on_end: dict[int, Callable[[str], None]] = {}  # by mover id
        self._last_id = 0
        self.has_ended = False
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        devnull = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._connection.setblocking(False)
            command = [sys.executable, "-I", "-S", "-c", _PROGRAM, *sys.path]
            descriptors = {0: devnull, 1: devnull, 2: 2, FORK_SERVER_FD: theirs.fileno()}
            reactor.spawnProcess(self, sys.executable, command, env=_ENVIRONMENT, childFDs=descriptors)
        except BaseException:
            self._connection.close()
            raise
        finally:
            theirs.close()
            os.close(devnull)
        reactor.addReader(self)

    def start_mover(self, descriptors: tuple[int, ...], on_end: Callable[[str], None]) -> Callable[[], None]:
        """See MoverSpawner.start.

        Raises: BrokenPipeError when the server has died.
        """
        self._last_id += 1
        mover_id = self._last_id
        socket.send_fds(self._connection, [encode(ForkServerRequest(mover_id))], descriptors)
        self._on_end[mover_id] = on_end

        def kill() -> None:
            if mover_id in self._on_end:
                with suppress(OSError):  # the server is dead, and its movers with it
                    self._connection.send(encode(ForkServerRequest(mover_id, kill=True)))

        return kill

    def _reported(self, report: ForkServerReport) -> None:
        if report.not_started:
            how = f"no process: {report.not_started}"
        else:
            how = f"signal {-report.exit_code}" if report.exit_code < 0 else f"status {report.exit_code}"
        self._on_end.pop(report.id)(how)

    # IReadDescriptor

    def fileno(self) -> int:
        return self._connection.fileno()

    def logPrefix(self) -> str:
        return "fork server"

    def doRead(self) -> None:
        """Read all reports; processEnded handles the end."""
        while True:
            try:
                data = self._connection.recv(MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._reactor.removeReader(self)
                return
            self._reported(decode_fork_report(data))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""

    # ProcessProtocol

    def processEnded(self, reason: Failure) -> None:
        """The kernel has killed its remaining movers with it (PR_SET_PDEATHSIG)."""
        self.doRead()
        self.has_ended = True
        self._reactor.removeReader(self)
        self._connection.close()
        self._log.error("The fork server of the movers ended: {why}", why=reason.getErrorMessage())
        while self._on_end:
            self._on_end.popitem()[1]("its fork server")
