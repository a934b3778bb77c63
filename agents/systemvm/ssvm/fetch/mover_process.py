# SPDX-License-Identifier: Apache-2.0
"""One mover as fetch sees it: started with three descriptors, watched, and killed when it is stuck."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.rpc.core.frame import LineSplitter, LineTooLong
from systemvm.service import slowness
from systemvm.service.slowness import TimeoutScale
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.mover_spawner import HasDescriptor, MoverSpawner
from systemvm.ssvm.mover_messages import (
    MoverJob,
    MoverProgress,
    MoverRate,
    MoverReport,
    MoverResult,
    decode_report,
    encode,
)
from systemvm.wire.transfer_failure import TransferFailure

WATCH_INTERVAL_S = 2.0
_LONGEST_REPORT_BYTES = 64 * 1024


class MoverProcess:
    """`run` moves one image; `kill` ends it at once, even when the process hangs."""

    def __init__(
        self,
        reactor: Any,
        children: MoverSpawner,
        job: MoverJob,
        on_progress: Callable[[MoverProgress], None],
        on_broken: Callable[[TransferError], None],
        on_store_stalled: Callable[[], None],
        on_wants_connection: Callable[[], None] = lambda: None,
        on_store_broken: Callable[[TransferError], None] | None = None,
        scale: TimeoutScale = slowness.timeout_scale,
    ) -> None:
        self._scale = scale
        self._reactor = reactor
        self._children = children
        self._kill_process: Callable[[], None] | None = None
        self._job = job
        self._on_progress = on_progress
        self._on_broken = on_broken
        self._on_store_stalled = on_store_stalled
        self._on_wants_connection = on_wants_connection
        self._on_store_broken = on_store_broken
        self._is_waiting = False  # for a connection to resume over
        self._is_waiting_for_store = False  # the same, for its S3 server
        self._log = Logger(namespace="systemvm.ssvm.mover.job")
        self._result: Deferred[MoverResult] = Deferred()
        self._splitter = LineSplitter(_LONGEST_REPORT_BYTES)
        self._control: _ControlSocket | None = None
        self._ended: Deferred[None] = Deferred()
        self._progress: MoverProgress | None = None
        self._last_progress_s = reactor.seconds()
        self._watch = LoopingCall(self._check_progress)
        self._watch.clock = reactor

    async def run(self, source: HasDescriptor, directory: int) -> MoverResult:
        """Start the process and return its result; the caller closes the descriptors.

        Raises: TransferError when the process fails, cannot be started, or is killed.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            ours.sendall(encode(self._job))  # fits the socket's buffer: the request's size is bounded
            ours.setblocking(False)
            self._kill_process = self._children.start(theirs, source, directory, self._process_ended)
        except OSError as error:
            ours.close()
            self._ended.callback(None)  # there is no process to wait for
            raise TransferError(
                TransferFailure.WORKER_DIED, f"mover cannot be started: {error.strerror}"
            ) from None
        finally:
            theirs.close()
        self._control = _ControlSocket(self._reactor, ours, self._received)
        self._watch.start(WATCH_INTERVAL_S, now=False)
        return await self._result

    def resume(self, job: MoverJob, source: socket.socket) -> None:
        """Send the mover a connection to resume over, which the caller closes, and the job with its URL.

        Raises: TransferError when the mover has ended or does not wait for one.
        """
        if self._control is None or not self._is_waiting:
            raise TransferError(TransferFailure.WORKER_DIED, "mover does not accept another connection")
        self._is_waiting = False
        self._last_progress_s = self._reactor.seconds()
        self._control.send(encode(job), source.fileno())

    def resume_store(self, job: MoverJob, store: socket.socket) -> None:
        """Send the mover another connection to its S3 server, which the caller closes.

        Raises: TransferError when the mover has ended or does not wait for one.
        """
        if self._control is None or not self._is_waiting_for_store:
            raise TransferError(TransferFailure.WORKER_DIED, "mover does not accept another connection")
        self._is_waiting_for_store = False
        self._last_progress_s = self._reactor.seconds()
        self._control.send(encode(evolve(job, is_of_store=True)), store.fileno())

    def add_connection(self, job: MoverJob, source: socket.socket) -> None:
        """Send the mover one more connection, which the caller closes; nothing happens when it has ended."""
        if self._control is not None and not self._result.called:
            with suppress(TransferError):
                self._control.send(encode(job), source.fileno())

    def set_rate(self, bytes_per_s: int | None) -> None:
        """Change how fast the mover receives; nothing happens when it has ended."""
        if self._control is not None and not self._result.called:
            with suppress(TransferError):
                self._control.send(encode(MoverRate(bytes_per_s)))

    def kill(self, error: TransferError) -> None:
        """Kill the process.

        `run` fails with `error` at once, even if the kernel cannot end the process yet.
        """
        self._settle(Failure(error))
        if self._kill_process is not None:
            self._kill_process()

    def when_ended(self) -> Deferred[None]:
        """Return a Deferred that fires when the process has ended, and with it its files are closed."""
        waiter: Deferred[None] = Deferred()
        if self._ended.called:
            waiter.callback(None)
        else:
            self._ended.addCallback(lambda _: waiter.callback(None))
        return waiter

    def _process_ended(self, how: str) -> None:
        if self._control is not None:
            self._control.drain()
            self._control.close()
        self._settle(Failure(_process_died(how)))
        self._ended.callback(None)

    # ---- from the mover ------------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        try:
            for line in self._splitter.feed(data):
                self._reported(decode_report(line))
        except (LineTooLong, ValueError) as error:
            self._log.error(
                "Job {job_id}: invalid message from mover: {error}", job_id=self._job.job_id, error=str(error)
            )
            self.kill(TransferError(TransferFailure.WORKER_DIED, "mover sent an invalid message"))

    def _reported(self, report: MoverReport) -> None:
        if report.result is not None:
            self._settle(report.result)
        elif report.failure is not None:
            self._settle(Failure(report.failure.to_error()))
        elif report.broken is not None:
            self._is_waiting = True
            self._on_broken(report.broken.to_error())
        elif report.store_broken is not None:
            self._store_broke(report.store_broken.to_error())
        elif report.wants_connection:
            self._on_wants_connection()
        elif report.progress is not None and not self._result.called:
            if report.progress != self._progress:
                self._last_progress_s = self._reactor.seconds()
            self._progress = report.progress
            self._on_progress(report.progress)

    def _store_broke(self, error: TransferError) -> None:
        if self._on_store_broken is None:  # it has a directory, and nothing to connect to
            self.kill(TransferError(TransferFailure.WORKER_DIED, "mover sent an invalid message"))
            return
        self._is_waiting_for_store = True
        self._on_store_broken(error)

    def _settle(self, outcome: MoverResult | Failure) -> None:
        if self._watch.running:
            self._watch.stop()
        if self._result.called:
            return
        if isinstance(outcome, Failure):
            self._result.errback(outcome)
        else:
            self._result.callback(outcome)

    def _check_progress(self) -> None:
        """Report a mover that is stuck; it notices a stuck source itself, so the store is the cause.

        It is not killed then: when the store answers again, nothing is lost.
        """
        if self._is_waiting or self._is_waiting_for_store:
            return
        limits = self._job.limits
        still_s = self._reactor.seconds() - self._last_progress_s
        # the part of the source was scaled when the job began (TransferLimits.scaled), that of the store was
        # not
        if still_s < limits.stall_timeout_s + limits.store_timeout_s:
            return
        if still_s < limits.stall_timeout_s + limits.store_timeout_s * self._scale():
            return
        if self._progress is None:
            self.kill(
                TransferError(
                    TransferFailure.STALLED,
                    f"{self._job.host} did not answer in {still_s:.0f} s",
                    "retry the template later",
                )
            )
            return
        self._on_store_stalled()


def _process_died(how: str) -> TransferError:
    return TransferError(
        TransferFailure.WORKER_DIED,
        f"the mover of the image ended with {how}",
        "retry the template; read the journal of the SSVM for the cause",
    )


@implementer(IReadDescriptor)
class _ControlSocket:
    """Fetch's end of the socketpair; the mover exits when it is closed."""

    def __init__(self, reactor: Any, connection: socket.socket, received: Callable[[bytes], None]) -> None:
        self._reactor = reactor
        self._connection = connection
        self._receive = received
        self._open = True
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._connection.fileno()

    def logPrefix(self) -> str:
        return "mover"

    def doRead(self) -> None:
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._receive(data)
        elif self._open:
            self._reactor.removeReader(self)

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def send(self, line: bytes, *descriptors: int) -> None:
        """Send a line, with a descriptor if it needs one.

        Raises: TransferError when the other end is closed.
        """
        try:
            socket.send_fds(self._connection, [line], list(descriptors))
        except OSError as error:
            raise TransferError(
                TransferFailure.WORKER_DIED, f"mover cannot be reached: {error.strerror}"
            ) from None

    def drain(self) -> None:
        """Read what the mover sent before it ended."""
        while self._open:
            try:
                data = self._connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            self._receive(data)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._reactor.removeReader(self)
            self._connection.close()
