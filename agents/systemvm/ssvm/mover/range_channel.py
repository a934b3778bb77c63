# SPDX-License-Identifier: Apache-2.0
"""One connection that receives parts of a file, one request after another on the same connection."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

from systemvm.ssvm import http_response
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_request import request_headers
from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.limits import KIB
from systemvm.ssvm.mover import http_client
from systemvm.ssvm.mover.minimum_rate import MinimumRate
from systemvm.ssvm.mover.range_plan import Segment
from systemvm.ssvm.mover_messages import MoverJob
from systemvm.ssvm.tls_client import reason_of, wrap_tls
from systemvm.wire.transfer_failure import TransferFailure

_READ_BYTES = 256 * KIB


class RangeChannel:
    """A connection of its own; after an error it is of no use any more."""

    def __init__(self, connection: socket.socket, job: MoverJob, point: ResumePoint) -> None:
        self._job = job
        self._point = point
        self._pace = MinimumRate(job.limits)
        self._socket = connection
        self.is_reusable = True  # the server did not say that it closes the connection

    def open(self) -> None:
        """Do the TLS handshake.

        Raises: TransferError when it fails.
        """
        self._socket.settimeout(self._job.limits.headers_timeout_s)
        if self._job.is_tls:
            self._socket = wrap_tls(self._socket, self._job.host, self._job.source_ca_pem)

    def receive(self, segment: Segment) -> Iterator[bytes]:
        """Request what is missing of a part, and yield it.

        Raises: TransferError when it is not that part of the same file, or does not come.
        """
        self._socket.settimeout(self._job.limits.headers_timeout_s)
        headers = request_headers(self._job.authority, self._job.authorization)
        del headers["Connection"]
        headers["Range"] = f"bytes={segment.position}-{segment.end - 1}"
        if self._point.validator is not None:
            headers["If-Range"] = self._point.validator
        answer = http_client.send_get(self._socket, self._job, headers)
        http_response.require_part(
            answer.status, http_client.headers_of(answer), self._point, segment.position, segment.end
        )
        self.is_reusable = not answer.will_close
        self._socket.settimeout(self._job.limits.stall_timeout_s)
        missing = segment.end - segment.position
        while missing:
            self._pace.check()
            data = self._read(answer, min(missing, _READ_BYTES))
            missing -= len(data)
            yield data
        with suppress(http.client.HTTPException, OSError, ValueError):
            answer.read()  # the end of a chunked body, so that the connection can be used again
        answer.close()

    def close(self) -> None:
        """Close the connection; a thread that receives from it fails."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self, answer: http.client.HTTPResponse, at_most: int) -> bytes:
        begun_s = time.monotonic()
        try:
            data = answer.read1(at_most)
        except TimeoutError:
            raise TransferError(
                TransferFailure.STALLED,
                f"no data for {self._job.limits.stall_timeout_s:g} s",
                "retry the template later: the server or the network is stuck",
            ) from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            why = reason_of(error) if isinstance(error, OSError) else type(error).__name__
            raise TransferError(
                TransferFailure.CONNECTION_LOST, f"connection lost: {why}", "retry the template"
            ) from None
        self._pace.note(time.monotonic() - begun_s, len(data))
        if not data:
            raise TransferError(
                TransferFailure.TRUNCATED, "the connection ended within a part", "retry the template"
            )
        return data
