# SPDX-License-Identifier: Apache-2.0
"""A source and a store that fail by a schedule, and what fetch does with movers that fail or die."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen

from systemvm.ssvm.failure import TransferError, of_store
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.mover.adaptive_source import AdaptiveSource
from systemvm.ssvm.mover.pipeline import Pipeline
from systemvm.ssvm.mover.resuming_source import ResumingSource
from systemvm.ssvm.mover_messages import MoverJob, MoverResult
from systemvm.ssvm.resumable import checkpoints, journal_file, part_file, sparse
from systemvm.ssvm.resumable.part_file import PartFile
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

#: What a connection does wrong. Those with a byte happen there; `lie_` need a checksum to be noticed at all.
SOURCE_FAULTS = (
    "drop", "reset", "stall", "flip", "flip unnoticed", "status 503", "status 404", "status 416",
    "ignore range",
    "wrong range", "wrong total", "other tag", "no tag", "garbage", "short", "close early",
    "lie about content",
)  # fmt: skip
STORE_FAULTS = ("kill", "ENOSPC", "EIO")
LIMITS = evolve(
    DEFAULT, headers_timeout_s=0.5, stall_timeout_s=0.1, trailing_timeout_s=0.05, retry_progress_bytes=16384,
    retry_budget_s=100.0, first_byte_budget_s=100.0,
)  # fmt: skip


@frozen
class SourceFault:
    """What one connection does, and at which part of what it sends."""

    what: str
    part: float = 0.5


@frozen
class StoreFault:
    """What happens at the n-th call of the store after the one before."""

    what: str
    after_calls: int


@frozen
class Schedule:
    source: tuple[SourceFault | None, ...]
    store: tuple[StoreFault, ...]
    has_checksum: bool
    extra_connections: int = 0


class DeadError(BaseException):
    """The mover was killed: no call of it has an effect any more."""


class FaultyOs:
    """The `os` of the mover's modules, until the process is killed."""

    _COUNTED = frozenset(
        {"pwrite", "write", "open", "fdatasync", "fsync", "rename", "unlink", "ftruncate", "read"}
    )

    def __init__(self, faults: list[StoreFault]) -> None:
        self._faults = faults
        self._calls = 0
        self._lock = threading.Lock()
        self.is_dead = False

    def revive(self) -> None:
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        if name not in self._COUNTED:
            return function

        def call(*arguments: Any, **more: Any) -> Any:
            with self._lock:
                self._fail()
            return function(*arguments, **more)

        return call

    def _fail(self) -> None:
        if self.is_dead:
            raise DeadError
        if not self._faults:
            return
        self._calls += 1
        if self._calls <= self._faults[0].after_calls:
            return
        fault, self._calls = self._faults.pop(0), 0
        if fault.what == "kill":
            self.is_dead = True
            raise DeadError
        number = getattr(errno, fault.what)
        raise OSError(number, os.strerror(number))


@define(eq=False)
class FaultySource:
    """Serves versions of a file; the faults are those of its connections, one after another."""

    versions: list[bytes]
    faults: list[SourceFault | None]
    version: int = 0
    served: set[int] = field(factory=set)
    lock: threading.Lock = field(factory=threading.Lock)

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with self.lock:
            fault = self.faults.pop(0) if self.faults else None
        threading.Thread(target=self._serve, args=(theirs, fault), daemon=True).start()
        return ours

    def _serve(self, connection: socket.socket, fault: SourceFault | None) -> None:
        with connection, suppress(OSError):
            while head := _read_head(connection):
                if not self._answer(connection, head, fault):
                    return
                fault = None

    def _answer(self, connection: socket.socket, head: str, fault: SourceFault | None) -> bool:
        what = "" if fault is None else fault.what
        if what.startswith("status"):
            connection.sendall(f"HTTP/1.1 {what[7:]} No\r\nContent-Length: 0\r\n\r\n".encode())
            return False
        if what == "garbage":
            connection.sendall(b"\x00\x01\x02 nothing\r\n\r\n")
            return False
        if what.startswith("flip") and self.version + 1 < len(self.versions):
            self.version += 1
        body, tag = self.versions[self.version], f'"v{self.version}"'
        self.served.add(self.version)
        ranged = re.search(r"Range: bytes=(\d+)-(\d*)", head)
        validator = re.search(r"If-Range: (.*)\r\n", head)
        is_same = validator is None or validator[1] == tag or what == "flip unnoticed"
        if ranged is not None and is_same and what != "ignore range":
            start = int(ranged[1])
            end = int(ranged[2]) + 1 if ranged[2] else len(body)
            lines = ["HTTP/1.1 206 Partial Content", _content_range(what, start, end, len(body))]
        else:
            start, end = 0, len(body)
            lines = ["HTTP/1.1 200 OK"]
        if what != "no tag":
            lines.append(f"ETag: {tag if what != 'other tag' else chr(34) + 'other' + chr(34)}")
        length = end - start
        lines += [f"Content-Length: {length - 512 if what == 'short' else length}", "", ""]
        content = body[start:end]
        if what == "lie about content":
            content = bytes(each ^ 1 for each in content)
        return self._send(connection, "\r\n".join(lines).encode(), content, fault) and "close" not in head

    @staticmethod
    def _send(connection: socket.socket, head: bytes, content: bytes, fault: SourceFault | None) -> bool:
        what = "" if fault is None else fault.what
        if fault is not None and what in ("drop", "reset", "stall", "close early"):
            content = content[: int(fault.part * len(content))]
        connection.sendall(head + content)
        if what == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if what == "stall":
            connection.recv(1)  # until the other end gives up
        return what not in ("drop", "reset", "stall", "close early")


def _content_range(what: str, start: int, end: int, total: int) -> str:
    if what == "wrong range":
        start, end = start + 512, end + 512
    if what == "wrong total":
        total += 512
    return f"Content-Range: bytes {start}-{end - 1}/{total}"


def _read_head(connection: socket.socket) -> str:
    head = b""
    while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
        head += data
    return head.decode("latin-1")


class Clock:
    """Each look at it takes a while, so that every budget ends."""

    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.5
        return self.now_s


class Fetch:
    """What fetch does for one job, with movers that run in this process."""

    def __init__(
        self, directory: Path, source: FaultySource, system: FaultyOs, job: MoverJob, more: int
    ) -> None:
        self._directory = directory
        self._source = source
        self._system = system
        self._job = job
        self._more = more
        self._waiting: list[socket.socket] = []
        self._budget = RetryBudget(LIMITS, Clock(), lambda high: 0.0)

    def run(self) -> MoverResult | TransferError:
        """Return the outcome of the job."""
        while True:
            try:
                return self._move()
            except DeadError:
                error = TransferError(TransferFailure.WORKER_DIED, "the mover was killed")
                self._system.revive()
                if not self._budget.replace_worker():
                    return error
            except OSError as failed:  # as the mover's job does
                return of_store(failed, "a file operation")
            except TransferError as failed:
                if not self._budget.is_transient(failed) or not self._budget.restart():
                    return failed
                if self._budget.next_delay_s(failed) is None:
                    return failed

    def _move(self) -> MoverResult:
        descriptor = os.open(self._directory, os.O_RDONLY)
        part: PartFile | None = None
        try:
            part = PartFile(descriptor, self._job.source_id)
            return self._continue(part)
        except TransferError as error:
            if error.code is TransferFailure.SOURCE_CHANGED and part is not None:
                part.journal_file.remove()
            raise
        finally:
            if part is not None and part.descriptor >= 0:
                os.close(part.descriptor)
            os.close(descriptor)

    def _continue(self, part: PartFile) -> MoverResult:
        start = None if part.journal is None else part.journal.resume_point()
        single = ResumingSource(self._source.connect(), self._job, self._reconnect, start)
        if part.journal is None:
            part.begin_anew()
        for _ in range(self._more):
            self._waiting.append(self._source.connect())
        self._more = 0
        pipeline = Pipeline(AdaptiveSource(single, self), part, self._job)
        try:
            return pipeline.run()
        finally:
            received = pipeline.progress().received_bytes
            if received:
                self._budget.note_progress(received)

    def _reconnect(self, error: TransferError) -> tuple[socket.socket, MoverJob]:
        if self._system.is_dead:
            raise DeadError
        if self._budget.next_delay_s(error) is None:
            raise error
        return self._source.connect(), self._job

    # MoreConnections

    def request_connection(self) -> None:
        self._waiting.append(self._source.connect())

    def take_connection(self) -> tuple[socket.socket, MoverJob] | None:
        return (self._waiting.pop(), self._job) if self._waiting else None


#: Every module of the mover that changes the store.
STORE_MODULES = (checkpoints, journal_file, part_file, sparse)


def make_job(checksum: str | None, image_format: ImageFormat = ImageFormat.RAW) -> MoverJob:
    return MoverJob(
        "job-1", "images.example.test", "images.example.test", "/a", False, image_format, 1 << 30,
        checksum=checksum, source_id="a", limits=LIMITS,
    )  # fmt: skip
