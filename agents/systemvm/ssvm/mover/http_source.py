# SPDX-License-Identifier: Apache-2.0
"""HTTP in the mover: TLS and one GET over a socket that is already connected.

`http.client` reads directly into the caller's buffer, which Twisted's stack does not (reference 6.1).
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from typing import TYPE_CHECKING

from systemvm.ssvm import http_response
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_request import request_headers
from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.mover import http_client
from systemvm.ssvm.mover.minimum_rate import MinimumRate
from systemvm.ssvm.tls_client import reason_of, wrap_tls
from systemvm.wire.transfer_failure import TransferFailure

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader

    from systemvm.ssvm.mover_messages import MoverJob


class HttpSource:
    """One response with a file or the rest of it; `total_bytes` is that of the file, None when unknown."""

    def __init__(self, connection: socket.socket, job: MoverJob, resume: ResumePoint | None = None) -> None:
        self._limits = job.limits
        self._has_checksum = job.checksum is not None
        self._pace = MinimumRate(job.limits)
        connection.settimeout(job.limits.headers_timeout_s)
        self._socket = wrap_tls(connection, job.host, job.source_ca_pem) if job.is_tls else connection
        self._answer = self._request(job, resume)
        if self._answer.status in http_response.REDIRECTS:
            raise TransferError(
                TransferFailure.REDIRECTS,
                "the server redirects now, but did not redirect the probe",
                "retry the template",
            )
        headers = http_client.headers_of(self._answer)
        if resume is None:
            http_response.require_status(self._answer.status, headers=headers)
            self._body = http_response.read_body(headers)
            self._check_length(job)
            self._validator = http_response.read_validator(headers)
            self.total_bytes = self._body.length_bytes
        else:
            self._body = http_response.require_rest(self._answer.status, headers, resume)
            self._validator = resume.validator or http_response.read_validator(headers)
            self.total_bytes = resume.total_bytes
        self._first_byte = 0 if resume is None else resume.received_bytes
        self.received_bytes = self._first_byte  # of the whole file
        self._socket.settimeout(job.limits.stall_timeout_s)

    def resume_point(self) -> ResumePoint | None:
        """Return where another response can resume.

        None when there is no byte yet, or nothing that identifies the rest.
        """
        has_checksum = self._has_checksum and self.total_bytes is not None
        if not self.received_bytes or (self._validator is None and not has_checksum):
            return None
        return ResumePoint(self.received_bytes, self._validator, self.total_bytes, self._body.encoding)

    def close(self) -> None:
        """Close the connection."""
        self._answer.close()
        self._socket.close()

    def read_into(self, buffer: memoryview) -> int:
        """Read once into `buffer`; return the number of bytes, 0 at the verified end of the body."""
        missing = self._missing_bytes
        if missing == 0:  # whatever the rate was: behind the last byte nothing could be resumed
            self._require_end()
            return 0
        self._pace.check()
        begun_s = time.monotonic()
        if missing is None:
            count = self._read_checked(self._read_unmeasured, buffer)
            self.received_bytes += count
        else:
            is_first = self.received_bytes == self._first_byte
            read = self._read_first if is_first else self._stream.readinto1
            count = self._read_checked(read, buffer[:missing])
            if count == 0:
                raise self._truncated()
            self.received_bytes += count
        self._pace.note(time.monotonic() - begun_s, count)
        return count

    @property
    def _missing_bytes(self) -> int | None:
        length = self._body.length_bytes
        return None if length is None else self._first_byte + length - self.received_bytes

    @property
    def content_encoding(self) -> str | None:
        """The encoding of the received bytes; None for the file as it is."""
        return self._body.encoding

    @property
    def _stream(self) -> BufferedReader:
        return self._answer.fp

    def _request(self, job: MoverJob, resume: ResumePoint | None) -> http.client.HTTPResponse:
        headers = request_headers(job.authority, job.authorization)
        if resume is not None:
            headers["Range"] = f"bytes={resume.received_bytes}-"
            if resume.validator is not None and not resume.is_plain:
                headers["If-Range"] = resume.validator
        return http_client.send_get(self._socket, job, headers)

    def _check_length(self, job: MoverJob) -> None:
        length, announced = self._body.length_bytes, job.announced_bytes
        if length is None and not self._body.is_chunked and job.checksum is None:
            raise TransferError(
                TransferFailure.LENGTH_UNKNOWN,
                "Failed to receive length of download",
                "register it with a checksum, which tells a complete file from a part",
            )
        if self._body.encoding is not None:
            announced = None  # an encoded body can be another representation than the probe's
        if length is not None and announced is not None and length != announced:
            raise TransferError(
                TransferFailure.LENGTH_WRONG,
                f"the server announced {announced} bytes first and {length} bytes then",
                "retry the template; the file can be changing at the moment",
            )
        http_response.require_size(length, job.max_size_bytes)

    def _read_first(self, buffer: memoryview) -> int:
        """Read what arrived with the headers; readinto1 would wait for more before it returns that."""
        data = self._stream.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read_unmeasured(self, buffer: memoryview) -> int:
        """Read a part of a chunk, or of a body that ends with the connection.

        Once, so that slowness is noticed.
        """
        data = self._answer.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read_checked(self, read: Callable[[memoryview], int], buffer: memoryview) -> int:
        try:
            return read(buffer)
        except http.client.IncompleteRead:
            raise self._truncated() from None
        except http.client.HTTPException as error:
            raise TransferError(
                TransferFailure.HTTP_INVALID,
                f"body is not HTTP: {type(error).__name__}",
                "fix the server or the proxy in front of it",
            ) from None
        except TimeoutError:
            raise TransferError(
                TransferFailure.STALLED,
                f"no data for {self._limits.stall_timeout_s:g} s after {self.received_bytes} bytes",
                "retry the template later: the server or the network is stuck",
            ) from None
        except (
            OSError,
            ValueError,
        ) as error:  # a chunk length that is not a number is a ValueError in Python 3.11
            if isinstance(error, ValueError):
                raise TransferError(
                    TransferFailure.HTTP_INVALID,
                    "chunks of the body cannot be parsed",
                    "fix the server or the proxy in front of it",
                ) from None
            raise TransferError(
                TransferFailure.CONNECTION_LOST,
                f"connection lost after {self.received_bytes} bytes: {reason_of(error)}",
                "retry the template",
            ) from None

    def _require_end(self) -> None:
        """Check that no byte follows: the request had `Connection: close`, so the connection ends here."""
        self._socket.settimeout(self._limits.trailing_timeout_s)
        extra = b""
        with contextlib.suppress(OSError):  # silence and a reset are not errors
            extra = self._stream.read1(1)
        if extra:
            raise TransferError(
                TransferFailure.LENGTH_WRONG,
                f"the server announced {self.total_bytes} bytes and sends more",
                "fix the server or the proxy in front of it",
            )

    def _truncated(self) -> TransferError:
        of = "" if self.total_bytes is None else f" of {self.total_bytes}"
        return TransferError(
            TransferFailure.TRUNCATED,
            f"the connection ended after {self.received_bytes}{of} bytes",
            "retry the template: the server or the network failed",
        )
