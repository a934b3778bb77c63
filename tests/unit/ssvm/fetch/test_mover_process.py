# SPDX-License-Identifier: Apache-2.0
"""The watchdog of fetch over a mover, and failures to start one."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.mover_process import WATCH_INTERVAL_S, MoverProcess
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.mover_messages import MoverJob, MoverProgress, MoverReport, MoverResult, encode
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

SCALE = 10.0
NO_DIRECTORY = -1
LIMITS = DEFAULT.scaled(SCALE)


class SilentChildren:
    """Children that start nothing, so no report is sent."""

    def start(
        self, control: socket.socket, source: socket.socket, directory: int, on_end: Callable[[str], None]
    ) -> Callable[[], None]:
        return lambda: None


@pytest.fixture
def reactor() -> Any:
    return MemoryReactorClock()


class FailingChildren:
    """Children that cannot start a process."""

    def start(self, *arguments: Any) -> Callable[[], None]:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


def make_mover(reactor: Any, children: Any, stalls: Callable[[], None] = lambda: None) -> MoverProcess:
    job = MoverJob(
        job_id="job-1", host="x.test", authority="x.test", target="/a.raw", is_tls=False,
        format=ImageFormat.RAW, max_size_bytes=1 << 20, checksum=None, source_ca_pem=None,
        announced_bytes=None, limits=LIMITS, request_id="r",
    )  # fmt: skip
    return MoverProcess(reactor, children, job, lambda _: None, lambda _: None, stalls, scale=lambda: SCALE)


def run(mover: MoverProcess) -> Deferred[MoverResult]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return Deferred.fromCoroutine(mover.run(ours, NO_DIRECTORY))


def code_of(running: Deferred[MoverResult]) -> TransferFailure:
    failure = running.result
    assert isinstance(failure, Failure)
    running.addErrback(lambda _: None)
    assert isinstance(failure.value, TransferError)
    return failure.value.code


def advance(reactor: Any, seconds: float) -> None:
    reactor.pump([WATCH_INTERVAL_S] * int(seconds / WATCH_INTERVAL_S))


def test_a_mover_without_progress_is_killed_after_a_limit_scaled_once(reactor: Any) -> None:
    running = run(make_mover(reactor, SilentChildren()))
    allowed_s = SCALE * (DEFAULT.stall_timeout_s + DEFAULT.store_timeout_s)
    advance(reactor, allowed_s - WATCH_INTERVAL_S)
    assert not running.called
    advance(reactor, 2 * WATCH_INTERVAL_S)
    assert code_of(running) is TransferFailure.STALLED


def test_a_mover_that_was_not_started_has_ended(reactor: Any) -> None:
    mover = make_mover(reactor, FailingChildren())
    assert code_of(run(mover)) is TransferFailure.WORKER_DIED
    assert mover.when_ended().called


class OneReport:
    """A mover that reports one progress, and then hangs in its store."""

    control: socket.socket

    def start(
        self, control: socket.socket, source: socket.socket, directory: int, on_end: Callable[[str], None]
    ) -> Callable[[], None]:
        control.sendall(encode(MoverReport(progress=MoverProgress(1, 2, 0))))
        self.control = control.dup()
        return lambda: None


def test_a_mover_that_hangs_in_its_store_is_reported_and_lives(reactor: Any) -> None:
    """Killing it would lose what it has; the server can come back at any time."""
    stalls: list[float] = []
    children = OneReport()
    mover = make_mover(reactor, children, lambda: stalls.append(reactor.seconds()))
    running = run(mover)
    [reader] = reactor.getReaders()
    reader.doRead()
    allowed_s = SCALE * (DEFAULT.stall_timeout_s + DEFAULT.store_timeout_s)
    advance(reactor, allowed_s + 2 * WATCH_INTERVAL_S)
    assert stalls
    assert not running.called
    children.control.sendall(encode(MoverReport(result=MoverResult("{MD5}00", 2, 2, 2))))
    reader.doRead()
    assert running.result == MoverResult("{MD5}00", 2, 2, 2)
    children.control.close()
