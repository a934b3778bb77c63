# SPDX-License-Identifier: Apache-2.0
"""A client of tus 1.0 (https://tus.io/protocols/resumable-upload) for an SSVM's signed uploads.

The libraries for tus keep the whole file in memory or bring an HTTP stack of their own; the part that is
needed here is HEAD, POST and PATCH.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO
from urllib.parse import urlsplit

from attrs import field, frozen

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import scaled_s

VERSION = "1.0.0"
BLOCK_BYTES = 1 << 20
#: One request has so many bytes: what is repeated at most after a connection that was lost.
PIECE_BYTES = 64 * BLOCK_BYTES
#: A socket without any progress; the answer to the last piece comes when the image is published.
SILENCE_S = 630.0
_NOT_NOW = frozenset({409, 423, 429, 502, 503, 504})


class UploadFailedError(SystemVmError):
    """An upload that cannot go on: the server's status and its text."""

    code = FailureCode.WRONG_STATE

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text or f"the server answered {status}")
        self.status = status


class UploadInterruptedError(SystemVmError):
    """An upload that can go on after `retry_after_s`."""

    code = FailureCode.UNAVAILABLE

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


@frozen
class _Answer:
    status: int
    headers: Mapping[str, str]
    text: str


@frozen
class TusClient:
    """Uploads one file to a URL; `headers` are those of its signature."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    trust: ssl.SSLContext | None = None  # for https

    def offset(self, size_bytes: int) -> int:
        """Return how much of a file of this size the server has, after telling it the size.

        Raises: UploadFailedError when it is another file's upload or has failed, UploadInterruptedError.
        """
        answer = self._call("HEAD", {})
        length = answer.headers.get("upload-length")
        if length is None:
            self._call("POST", {"Upload-Length": str(size_bytes)})
        elif length != str(size_bytes):
            raise UploadFailedError(
                answer.status, f"the upload is of a file of {length} bytes, and this one has {size_bytes}"
            )
        return int(answer.headers.get("upload-offset", "0"))

    def send(self, source: BinaryIO, offset: int, size_bytes: int, on_block: Callable[[bytes], None]) -> int:
        """Send the next piece from the present position of `source`; return the offset behind it.

        `on_block` gets each block before it is sent.

        Raises: UploadFailedError when the server refuses the file, UploadInterruptedError.
        """
        piece_bytes = min(PIECE_BYTES, size_bytes - offset)
        headers = {
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(piece_bytes),
            "Upload-Offset": str(offset),
        }
        answer = self._call("PATCH", headers, _blocks(source, piece_bytes, on_block))
        return int(answer.headers.get("upload-offset", offset + piece_bytes))

    def _call(self, method: str, headers: Mapping[str, str], body: Iterator[bytes] | None = None) -> _Answer:
        sent = {"Tus-Resumable": VERSION, **self.headers, **headers}
        if method == "POST":
            sent["Content-Length"] = "0"
        try:
            answer = self._exchange(method, sent, body)
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise UploadInterruptedError(str(error) or type(error).__name__) from error
        if answer.status in _NOT_NOW:
            retry_after = answer.headers.get("retry-after", "")
            wait_s = float(retry_after) if retry_after.isdigit() else 0.0
            raise UploadInterruptedError(answer.text or f"the server answered {answer.status}", wait_s)
        if answer.status >= 300:
            raise UploadFailedError(answer.status, answer.text)
        return answer

    def _exchange(self, method: str, headers: Mapping[str, str], body: Iterator[bytes] | None) -> _Answer:
        parts = urlsplit(self.url)
        connection = self._connection(parts.hostname or "", parts.port)
        try:
            failed: OSError | None = None
            try:
                connection.request(method, parts.path, body, dict(headers))
            except (BrokenPipeError, ConnectionResetError) as error:
                failed = error  # a server that refuses a body answers before its end
            try:
                response = connection.getresponse()
            except (OSError, http.client.HTTPException):
                raise failed or ConnectionResetError("the server closed the connection") from None
            text = response.read(4096).decode("utf-8", "replace").strip()
            return _Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, text)
        finally:
            connection.close()

    def _connection(self, host: str, port: int | None) -> http.client.HTTPConnection:
        timeout_s = scaled_s(SILENCE_S)
        if self.trust is None:
            return http.client.HTTPConnection(host, port, timeout=timeout_s, blocksize=BLOCK_BYTES)
        return http.client.HTTPSConnection(
            host, port, timeout=timeout_s, context=self.trust, blocksize=BLOCK_BYTES
        )


def _blocks(source: BinaryIO, length: int, on_block: Callable[[bytes], None]) -> Iterator[bytes]:
    while length:
        block = source.read(min(BLOCK_BYTES, length))
        if not block:
            raise ConnectionAbortedError("the file has become shorter")
        length -= len(block)
        on_block(block)
        yield block
