# SPDX-License-Identifier: Apache-2.0
"""One file over as many connections as it takes: where one breaks off, the next goes on.

What has been hashed, unpacked and written stays: only bytes behind it are asked for (RFC 9110, 14.2), and
only of the same file (13.1.5, If-Range).
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover.http_source import HttpSource
from systemvm.ssvm.mover_messages import MoverJob

#: Gets a connection to go on over, and the job with where it leads; blocks until there is one.
Reconnect = Callable[[TransferError], tuple[socket.socket, MoverJob]]


class ResumingSource:
    """A body from its first byte to its last; TransferError when it cannot be gone on with."""

    def __init__(self, connection: socket.socket, job: MoverJob, reconnect: Reconnect) -> None:
        self._answer = HttpSource(connection, job)
        self._reconnect = reconnect

    @property
    def received_bytes(self) -> int:
        return self._answer.received_bytes

    @property
    def total_bytes(self) -> int | None:
        return self._answer.total_bytes

    @property
    def content_encoding(self) -> str | None:
        return self._answer.content_encoding

    def read_into(self, buffer: memoryview) -> int:
        """Fill as much of `buffer` as one read brings; 0 at the checked end of the body."""
        while True:
            try:
                return self._answer.read_into(buffer)
            except TransferError as error:
                self._go_on(error)

    def _go_on(self, error: TransferError) -> None:
        """Replace the broken answer; raises `error`, or a later one, when the file is to begin again."""
        point = self._answer.resume_point()
        self._answer.close()
        while point is not None and error.code.is_retryable:
            connection, job = self._reconnect(error)
            try:
                self._answer = HttpSource(connection, job, point)
            except TransferError as failed:
                connection.close()
                error = failed
            else:
                return
        raise error
