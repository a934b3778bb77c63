# SPDX-License-Identifier: Apache-2.0
"""An HTTP request whose body cannot fill the disk: twisted.web itself accepts any length."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.web.server import Request

_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BoundedRequest(Request):
    """Rejects a body that is too long before it is read, with an announced length or in chunks."""

    max_body_bytes: ClassVar[int]

    _refused = False
    _received_bytes = 0

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        if length is not None and length > self.max_body_bytes:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._received_bytes > self.max_body_bytes:
            self._refuse()
        if not self._refused:
            super().handleContentChunk(data)

    def process(self) -> None:
        if not self._refused:
            super().process()

    def _refuse(self) -> None:
        if self._refused:
            return
        self._refused = True
        channel: Any = self.channel
        channel.transport.write(_TOO_LARGE)
        channel.loseConnection()
