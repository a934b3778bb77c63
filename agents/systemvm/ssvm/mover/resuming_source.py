# SPDX-License-Identifier: Apache-2.0
"""One file over several connections: where one breaks off, the next resumes.

Bytes that were hashed, decompressed and written are not requested again, only those behind them (RFC 9110,
14.2), and only of the same file (13.1.5, If-Range).
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from attrs import evolve

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_response import IfRangeIgnoredError, ResumePoint
from systemvm.ssvm.mover.http_source import HttpSource
from systemvm.ssvm.mover_messages import MoverJob

#: Returns a connection to resume over, and the job with its URL; blocks until there is one.
Reconnect = Callable[[TransferError], tuple[socket.socket, MoverJob]]


class ResumingSource:
    """A body from its first byte to its last."""

    def __init__(
        self,
        connection: socket.socket,
        job: MoverJob,
        reconnect: Reconnect,
        start: ResumePoint | None = None,
    ) -> None:
        self._reconnect = reconnect
        self._place = (job.authority, job.target)
        if start is not None:
            start = _without_validator(start, job)  # the journal does not say which mirror it was
        try:
            self._answer = HttpSource(connection, job, start)
        except IfRangeIgnoredError as error:
            self._answer = self._resumed(error, start)

    @property
    def received_bytes(self) -> int:
        return self._answer.received_bytes

    @property
    def total_bytes(self) -> int | None:
        return self._answer.total_bytes

    @property
    def content_encoding(self) -> str | None:
        return self._answer.content_encoding

    def resume_point(self) -> ResumePoint | None:
        """Return where another response can resume; None when none can."""
        return self._answer.resume_point()

    def read_into(self, buffer: memoryview) -> int:
        """Read once into `buffer`; return the number of bytes, 0 at the verified end of the body.

        Raises: TransferError when the body cannot be resumed.
        """
        while True:
            try:
                return self._answer.read_into(buffer)
            except TransferError as error:
                point = self._answer.resume_point()
                self._answer.close()
                self._answer = self._resumed(error, point)

    def continue_at(self, error: TransferError, point: ResumePoint) -> None:
        """Continue over another connection at a later point, after `error`.

        Raises: TransferError when the file must be requested from its first byte.
        """
        self._answer = self._resumed(error, point)

    def close(self) -> None:
        """Close the connection; `continue_at` opens another one."""
        self._answer.close()

    def _resumed(self, error: TransferError, point: ResumePoint | None) -> HttpSource:
        """Return a response that continues at `point`.

        Raises: `error`, or a later one, when the file must be requested from its first byte.
        """
        while point is not None and error.code.is_retryable:
            if isinstance(error, IfRangeIgnoredError):
                point = evolve(point, is_plain=True)
            connection, job = self._reconnect(error)
            if (job.authority, job.target) != self._place:
                self._place, point = (job.authority, job.target), _without_validator(point, job)
            try:
                return HttpSource(connection, job, point)
            except TransferError as failed:
                connection.close()
                error = failed
        raise error


def _without_validator(point: ResumePoint, job: MoverJob) -> ResumePoint:
    """Return what identifies the rest at another mirror, whose entity tags are its own: size and checksum."""
    return evolve(point, validator=None) if job.has_mirrors and job.checksum is not None else point
