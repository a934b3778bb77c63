# SPDX-License-Identifier: Apache-2.0
"""A file that its user uploads, in one body or in several that come whenever their client wants to go on.

Each body comes in frames over a socket of serve, which fetch passes here (`upload_messages`). Between two of
them the mover waits; fetch ends it when nobody comes.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.mover.minimum_rate import MinimumRate
from systemvm.ssvm.mover_messages import MoverJob, UploadBody
from systemvm.ssvm.upload_messages import FRAME_HEADER, MAX_FRAME_BYTES
from systemvm.wire.transfer_failure import TransferFailure

#: Requests another body from fetch, and waits for it; the error is why the one before has ended.
NextBody = Callable[[TransferError], tuple[socket.socket, MoverJob]]


class UploadSource:
    """The bytes of all bodies in order; `total_bytes` is None until the client has said it."""

    content_encoding: str | None = None

    def __init__(self, job: MoverJob, next_body: NextBody, start: ResumePoint | None = None) -> None:
        self._next_body = next_body
        self._limits = job.limits
        self._connection: socket.socket | None = None
        self._pace = MinimumRate(job.limits)
        self._is_whole = False
        self._frame_bytes = 0  # of the current frame, still to be read
        self._why = TransferError(TransferFailure.TRUNCATED, "the upload waits for its client")
        self.received_bytes = 0 if start is None else start.received_bytes
        self.total_bytes: int | None = None if start is None else start.total_bytes
        if self.total_bytes is None and job.upload is not None:
            self.total_bytes = job.upload.total_bytes

    def resume_point(self) -> ResumePoint | None:
        """Return where a body after the death of this process begins; None when there can be none."""
        if self._is_whole or self.total_bytes is None or not self.received_bytes:
            return None
        return ResumePoint(self.received_bytes, None, self.total_bytes, None)

    def read_into(self, buffer: memoryview) -> int:
        """Read once into `buffer`; return the number of bytes, 0 at the end of the file.

        Raises: TransferError when the one body that was to bring the file breaks off.
        """
        while self.received_bytes != self.total_bytes:
            connection = self._connection or self._take_body()
            try:
                count = self._read(connection, buffer)
            except TransferError as error:
                self._close()
                if self._is_whole:
                    raise _one_time(error) from None
                self._why = error
                continue
            if count:
                self.received_bytes += count
                return count
            self._close()
            self._why = TransferError(TransferFailure.TRUNCATED, "the body has ended")
            if self._is_whole:
                self.total_bytes = self.received_bytes
        self._close()
        return 0

    def _take_body(self) -> socket.socket:
        connection, job = self._next_body(self._why)
        body = job.upload or UploadBody()
        self._is_whole = body.is_whole
        self.total_bytes = body.total_bytes
        self._frame_bytes = 0
        self._pace = MinimumRate(job.limits)
        connection.settimeout(self._limits.stall_timeout_s)
        self._connection = connection
        return connection

    def _read(self, connection: socket.socket, buffer: memoryview) -> int:
        """Read a part of a frame; 0 at the end of the body."""
        self._pace.check()
        begun_s = time.monotonic()
        try:
            if not self._frame_bytes:
                self._frame_bytes = _read_frame_header(connection)
                if not self._frame_bytes:
                    return 0
            count = connection.recv_into(buffer[: self._frame_bytes])
        except TimeoutError:
            raise TransferError(
                TransferFailure.STALLED,
                f"no data for {self._limits.stall_timeout_s:g} s after {self.received_bytes} bytes",
                "resume the upload",
            ) from None
        except OSError:
            count = 0
        if not count:
            raise TransferError(
                TransferFailure.CONNECTION_LOST,
                f"connection lost after {self.received_bytes} bytes",
                "resume the upload",
            )
        self._frame_bytes -= count
        self._pace.note(time.monotonic() - begun_s, count)
        return count

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _read_frame_header(connection: socket.socket) -> int:
    """Return the length of the next frame.

    Raises: OSError when the connection ends here, or is none of frames.
    """
    header = b""
    while len(header) < FRAME_HEADER.size:
        data = connection.recv(FRAME_HEADER.size - len(header))
        if not data:
            raise ConnectionError("no frame")
        header += data
    length: int = FRAME_HEADER.unpack(header)[0]
    if length > MAX_FRAME_BYTES:
        raise ConnectionError("frame is too long")
    return length


def _one_time(error: TransferError) -> TransferError:
    """Return the end of an upload whose only request broke off, in CloudStack's words."""
    if error.code is TransferFailure.STALLED:
        return TransferError(error.code, error.message, "upload the file again with a new URL")
    return TransferError(
        TransferFailure.UPLOAD_BROKEN,
        "file receive failed or connection closed prematurely.",
        "upload the file again with a new URL",
    )
