# SPDX-License-Identifier: Apache-2.0
"""The watchdog of fetch over a mover, and failures to start one."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.mover_process import WATCH_INTERVAL_S, MoverProcess
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.mover_messages import (
    MoverFailure,
    MoverJob,
    MoverProgress,
    MoverReport,
    MoverResult,
    decode_job,
    encode,
)
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


JOB = MoverJob(
    job_id="job-1", host="x.test", authority="x.test", target="/a.raw", is_tls=False,
    format=ImageFormat.RAW, max_size_bytes=1 << 20, checksum=None, source_ca_pem=None,
    announced_bytes=None, limits=LIMITS, request_id="r",
)  # fmt: skip


def make_mover(
    reactor: Any,
    children: Any,
    stalls: Callable[[], None] = lambda: None,
    on_store_broken: Callable[[TransferError], None] | None = None,
) -> MoverProcess:
    return MoverProcess(
        reactor,
        children,
        JOB,
        lambda _: None,
        lambda _: None,
        stalls,
        on_store_broken=on_store_broken,
        scale=lambda: SCALE,
    )


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


BROKEN = MoverFailure(TransferFailure.CONNECTION_LOST.value, "it closed the connection")


class LostStore:
    """A mover that has lost the connection to its S3 server."""

    control: socket.socket

    def start(
        self, control: socket.socket, source: socket.socket, directory: int, on_end: Callable[[str], None]
    ) -> Callable[[], None]:
        control.sendall(encode(MoverReport(progress=MoverProgress(1, 2, 0))))
        control.sendall(encode(MoverReport(store_broken=BROKEN)))
        self.control = control.dup()
        return lambda: None


def test_a_mover_that_waits_for_its_s3_server_gets_another_connection(reactor: Any) -> None:
    children, errors = LostStore(), list[TransferFailure]()
    mover = make_mover(reactor, children, on_store_broken=lambda error: errors.append(error.code))
    running = run(mover)
    [reader] = reactor.getReaders()
    reader.doRead()
    assert errors == [TransferFailure.CONNECTION_LOST]
    advance(reactor, 2 * SCALE * (DEFAULT.stall_timeout_s + DEFAULT.store_timeout_s))
    assert not running.called, "a wait for fetch is no hang"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        mover.resume_store(JOB, ours)
        lines, descriptors, _, _ = socket.recv_fds(children.control, 65536, 2)
        with pytest.raises(TransferError):
            mover.resume_store(JOB, ours)
    assert decode_job(lines.splitlines()[-1]) == evolve(JOB, is_of_store=True)
    assert len(descriptors) == 1
    for descriptor in descriptors:
        os.close(descriptor)
    children.control.close()


def test_a_mover_with_a_directory_cannot_ask_for_an_s3_server(reactor: Any) -> None:
    children = LostStore()
    running = run(make_mover(reactor, children))
    [reader] = reactor.getReaders()
    reader.doRead()
    assert code_of(running) is TransferFailure.WORKER_DIED
    children.control.close()
