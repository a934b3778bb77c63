# SPDX-License-Identifier: Apache-2.0
"""The process that movers are forked from: all modules are imported, and nothing blocks it.

fetch starts it once. Starting an interpreter and importing modules for each image would cost seconds of CPU
in a guest without KVM; a fork costs milliseconds. It has one thread and no reactor, so forking is always
safe.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback

from attrs import define

from systemvm.ssvm import mover_messages, resumable_hash
from systemvm.ssvm.formats import by_format
from systemvm.ssvm.mover import job
from systemvm.ssvm.mover.seccomp import die_with_parent, set_process_name
from systemvm.ssvm.mover_messages import (
    CONTROL_FD,
    DIRECTORY_FD,
    FORK_SERVER_FD,
    MAX_PACKET_BYTES,
    SOURCE_FD,
    ForkServerReport,
    ForkServerRequest,
    decode_order,
    encode,
)

#: Their names in `ps` and `pgrep` (comm, at most 15 characters).
SERVER_NAME, MOVER_NAME = "mover-server", "mover"
_MOVER_FDS = (CONTROL_FD, SOURCE_FD, DIRECTORY_FD)
#: Modules that a mover imports only when its image needs them.
_LATE_IMPORTS = (
    "encodings.idna",
    "isal.isal_zlib",
    *(f"systemvm.ssvm.formats.{name}" for name in by_format.MODULES),
    "zstandard",
)


@define
class _Mover:
    id: int
    pid: int


class ForkServer:
    """Forks and kills movers on request, and reports the end of each."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._poll = select.epoll()
        self._poll.register(connection, select.EPOLLIN)
        self._movers: dict[int, _Mover] = {}  # by pidfd

    def run(self) -> None:
        """Serve until fetch closes its end."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._movers:
                    self._reap(descriptor)
                elif not self._receive():
                    return

    def _receive(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._connection, MAX_PACKET_BYTES, len(_MOVER_FDS))
        try:
            if not data:
                return False
            order = decode_order(data)
            if order.kill:
                self._kill(order.id)
            elif len(descriptors) == len(_MOVER_FDS):
                self._fork(order, descriptors)
            return True
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork(self, order: ForkServerRequest, descriptors: list[int]) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._report(ForkServerReport(order.id, not_started=error.strerror or "fork failed"))
            return
        if pid == 0:
            _run_mover(parent, descriptors)
        pidfd = os.pidfd_open(pid)
        self._movers[pidfd] = _Mover(order.id, pid)
        self._poll.register(pidfd, select.EPOLLIN)

    def _kill(self, mover_id: int) -> None:
        for each in self._movers.values():
            if each.id == mover_id:
                os.kill(each.pid, signal.SIGKILL)  # not reaped yet, so the number is not reused

    def _reap(self, pidfd: int) -> None:
        ended = self._movers.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(ended.pid, 0)
        self._report(ForkServerReport(ended.id, exit_code=os.waitstatus_to_exitcode(status)))

    def _report(self, report: ForkServerReport) -> None:
        self._connection.sendall(encode(report))


def _run_mover(parent: int, descriptors: list[int]) -> None:
    """Run one mover and exit.

    It keeps three descriptors and standard error, and nothing else of the server.
    """
    code = 1
    try:
        set_process_name(MOVER_NAME)
        die_with_parent(parent)
        # first move them away from the numbers that they will have
        high = [fcntl.fcntl(each, fcntl.F_DUPFD, max(_MOVER_FDS) + 1) for each in descriptors]
        for source, target in zip(high, _MOVER_FDS, strict=True):
            os.dup2(source, target, inheritable=False)
        os.closerange(max(_MOVER_FDS) + 1, os.sysconf("SC_OPEN_MAX"))
        gc.enable()
        code = job.main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> int:
    """Serve fetch, whose socket is `FORK_SERVER_FD`."""
    for name in _LATE_IMPORTS:
        importlib.import_module(name)
    resumable_hash.load()
    mover_messages.warm_up()
    set_process_name(SERVER_NAME)
    # a mover shares these pages until they are written to, which the collector would do
    gc.collect()
    gc.disable()
    gc.freeze()
    with socket.socket(fileno=FORK_SERVER_FD) as connection:
        connection.set_inheritable(False)
        ForkServer(connection).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
