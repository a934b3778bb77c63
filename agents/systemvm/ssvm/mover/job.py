# SPDX-License-Identifier: Apache-2.0
"""The mover: one process for one job, with a connected socket and a directory that others opened for it.

It resolves no name, opens no connection and starts no program; it reads untrusted bytes, and writes one file.
It ends with its control socket, so it does not outlive fetch.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from systemvm.ssvm.failure import TransferError, of_store, of_this_vm
from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.mover.adaptive_source import AdaptiveSource, OneConnection
from systemvm.ssvm.mover.byte_source import ByteSource
from systemvm.ssvm.mover.decompress import needs_memory
from systemvm.ssvm.mover.destination import Destination
from systemvm.ssvm.mover.file_source import FileSource
from systemvm.ssvm.mover.piece_source import PieceSource
from systemvm.ssvm.mover.pipeline import BUFFERS, Pipeline
from systemvm.ssvm.mover.rate_limit import LimitedSource, RateLimit
from systemvm.ssvm.mover.resuming_source import ResumingSource
from systemvm.ssvm.mover.s3_destination import S3Destination
from systemvm.ssvm.mover.seccomp import MAX_DATA_BYTES, restrict_process
from systemvm.ssvm.mover.upload_source import UploadSource
from systemvm.ssvm.mover_messages import (
    CONTROL_FD,
    DIRECTORY_FD,
    SOURCE_FD,
    MoverFailure,
    MoverJob,
    MoverRate,
    MoverReport,
    MoverResult,
    ObjectTarget,
    decode_control,
    decode_job,
    encode,
)
from systemvm.ssvm.resumable.part_file import PartFile
from systemvm.ssvm.s3.connection import S3Connection
from systemvm.ssvm.s3.signing import Signer
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

REPORT_INTERVAL_S = 0.5
#: The part of an object is a buffer, too, and so is a piece that is checked.
_BUFFERS_BESIDE_A_PART, _BUFFERS_BESIDE_A_PIECE = 4, 2


class Mover:
    """Does the work in a thread, and reports from the main thread."""

    def __init__(self, control: socket.socket, source: int, directory: int, job: MoverJob) -> None:
        self._control = control
        self._source = source  # the descriptor of a connection, or of a file
        self._directory = directory
        self._job = job
        self._pipeline: Pipeline | None = None
        self._report: MoverReport | None = None
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._sending = threading.Lock()
        self._rate = RateLimit(job.rate_bytes_per_s)
        self._connections: SimpleQueue[tuple[socket.socket, MoverJob]] = SimpleQueue()
        self._store_connections: SimpleQueue[tuple[socket.socket, MoverJob]] = SimpleQueue()

    def run(self) -> None:
        """Work, report twice a second, and return after a result or a failure."""
        threading.Thread(target=self._work, name="work", daemon=True).start()
        while True:
            ready, _, _ = select.select([self._control.fileno(), self._ended], [], [], REPORT_INTERVAL_S)
            if self._control.fileno() in ready:
                self._take_orders()
            report = self._report
            self._send_progress()  # before the outcome, too: fetch decides by the last progress
            if report is not None:
                self._send(report)
                return

    def _take_orders(self) -> None:
        """Receive lines: a rate, or a job with a connection; exit when fetch has closed the socket."""
        received, descriptors = b"", []
        while not received.endswith(b"\n"):
            data, fresh, _, _ = socket.recv_fds(self._control, 65536, 1)
            if not data:
                os._exit(1)  # the threads can be blocked in a system call
            received += data
            descriptors += fresh
        for line in received.splitlines():
            order = decode_control(line)
            if isinstance(order, MoverRate):
                self._rate.set(order.bytes_per_s)
                continue
            connections = self._store_connections if order.is_of_store else self._connections
            connections.put((socket.socket(fileno=descriptors.pop(0)), order))

    def _reconnect(self, error: TransferError) -> tuple[socket.socket, MoverJob]:
        """Request another connection from fetch, and wait for it; called in the working thread."""
        self._send_progress()
        self._send(MoverReport(broken=MoverFailure.of(error)))
        while self._pipeline is None or not self._pipeline.stopped:
            with suppress(Empty):
                return self._connections.get(timeout=REPORT_INTERVAL_S)
        raise error  # the store failed meanwhile; the pipeline reports that instead

    def _reconnect_store(self, error: TransferError) -> socket.socket:
        """Request another connection to the S3 server, and wait for it."""
        self._send_progress()
        self._send(MoverReport(store_broken=MoverFailure.of(error)))
        while self._pipeline is None or not self._pipeline.stopped:
            with suppress(Empty):
                return self._store_connections.get(timeout=REPORT_INTERVAL_S)[0]
        raise error  # the source failed meanwhile

    # MoreConnections

    def request_connection(self) -> None:
        """Ask fetch for one more connection, which comes or does not come."""
        self._send(MoverReport(wants_connection=True))

    def take_connection(self) -> tuple[socket.socket, MoverJob] | None:
        """Return a connection that has come."""
        try:
            return self._connections.get_nowait()
        except Empty:
            return None

    def _send_progress(self) -> None:
        if self._pipeline is not None:
            self._send(MoverReport(progress=self._pipeline.progress()))

    def _send(self, report: MoverReport) -> None:
        with self._sending:
            self._control.sendall(encode(report))

    def _work(self) -> None:
        try:
            result = self._move()
            report = MoverReport(result=result)
        except TransferError as error:
            report = _failure_report(error)
        except OSError as error:
            # the store failed whatever the operation was: a handle is stale after its server was restarted
            report = _failure_report(of_store(error, "a file operation"))
        except MemoryError:
            report = _failure_report(
                needs_memory(
                    "all of it is used", MAX_DATA_BYTES, "compress it with a smaller dictionary or window"
                )
            )
        except Exception as error:
            sys.stderr.write(
                f"mover of job {_sanitize(self._job.job_id)} failed unexpectedly: {error!r}\n"[:2000]
            )
            report = _failure_report(of_this_vm(error))
        self._report = report
        os.eventfd_write(self._ended, 1)

    def _move(self) -> MoverResult:
        if self._job.object_target is not None:
            return self._move_to_bucket(self._job.object_target)
        part = PartFile(self._directory, self._job.source_id)
        try:
            return self._continue(part, self._require_room)
        except TransferError as error:
            if error.code is TransferFailure.SOURCE_CHANGED:
                part.journal_file.remove()  # or the next mover would try the same again
            raise
        finally:
            part.close()

    def _move_to_bucket(self, target: ObjectTarget) -> MoverResult:
        server = S3Connection(
            socket.socket(fileno=self._directory),
            target.endpoint,
            Signer(target.credentials, target.endpoint.region),
            self._reconnect_store,
            self._job.limits,
            target.ca_pem,
        )
        destination = S3Destination(
            server, target.key, target.journal_key, self._job.source_id, target.part_bytes
        )
        if destination.finished is not None:
            return destination.finished
        try:
            result = self._continue(destination, lambda total_bytes: None)
        except TransferError as error:
            if not error.code.is_retryable:  # otherwise the next mover continues
                destination.discard()
            raise
        destination.complete(result)
        return result

    def _continue(self, part: Destination, require_room: Callable[[int | None], None]) -> MoverResult:
        start = part.journal.resume_point() if part.journal is not None else None
        if self._job.upload is not None:
            return self._receive_upload(part, UploadSource(self._job, self._reconnect, start))
        source = self._open_source(start)
        if part.journal is None:
            require_room(source.total_bytes)
            part.begin_anew()
        self._pipeline = Pipeline(LimitedSource(source, self._rate), part, self._job, self._buffers)
        return self._pipeline.run()

    @property
    def _buffers(self) -> int:
        if self._job.pieces is not None:
            return _BUFFERS_BESIDE_A_PIECE
        return BUFFERS if self._job.object_target is None else _BUFFERS_BESIDE_A_PART

    def _receive_upload(self, part: Destination, source: UploadSource) -> MoverResult:
        os.close(self._source)  # it only stands in for one: the first body comes as all others do
        if part.journal is None:
            part.begin_anew()
        self._pipeline = Pipeline(source, part, self._job, self._buffers)
        return self._pipeline.run()

    def _open_source(self, start: ResumePoint | None) -> ByteSource:
        if self._job.is_file:
            return FileSource(self._source, start)
        single = ResumingSource(socket.socket(fileno=self._source), self._job, self._reconnect, start)
        if self._job.object_target is not None:
            return AdaptiveSource(single, OneConnection())
        return self._checked(AdaptiveSource(single, self))

    def _checked(self, source: AdaptiveSource) -> ByteSource:
        """Return the source with its pieces checked, if they are known; they are those of the plain file."""
        pieces, total_bytes = self._job.pieces, source.total_bytes
        if pieces is None or total_bytes is None or source.content_encoding is not None:
            return source
        return PieceSource(source, total_bytes, pieces)

    def _require_room(self, total_bytes: int | None) -> None:
        """Check the free space before the file is received; raw disks and fixed VHDs can fit by holes.

        Raises: TransferError when the file is larger than the free space.
        """
        if total_bytes is None or self._job.format in (ImageFormat.RAW, ImageFormat.VHD):
            return
        state = os.fstatvfs(self._directory)
        free_bytes = state.f_bavail * state.f_frsize
        if total_bytes > free_bytes:
            raise TransferError(
                TransferFailure.STORE_FULL,
                f"secondary storage is full: the image has {total_bytes} bytes, {free_bytes} are free",
                "free space on the store or add another one, then retry the template",
            )


def _failure_report(error: TransferError) -> MoverReport:
    return MoverReport(failure=MoverFailure.of(error))


def _sanitize(text: str) -> str:
    """Return an id as one word of a log line."""
    return "".join(each if each.isalnum() or each in "-_." else "?" for each in text[:128])


def main() -> int:
    control = socket.socket(fileno=CONTROL_FD)
    with control.makefile("rb") as lines:
        job = decode_job(lines.readline())
    # standard error is the journal, where the request id of the API call can be followed to this process
    sys.stderr.write(f"mover of job {_sanitize(job.job_id)} begins (request {_sanitize(job.request_id)})\n")
    restrict_process(max_file_bytes=job.max_size_bytes + MIB)
    Mover(control, SOURCE_FD, DIRECTORY_FD, job).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
