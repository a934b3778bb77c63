# SPDX-License-Identifier: Apache-2.0
"""The daemon's HTTP site: requests of a bounded size, and an access log without secrets."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.web import http, server
from twisted.web.resource import Resource

MAX_BODY_BYTES = 256 * 1024
IDLE_TIMEOUT_S = 60

_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BoundedRequest(server.Request):
    """A request whose body cannot fill the disk: Twisted itself would take any length."""

    _received_bytes = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        if length is not None and length > MAX_BODY_BYTES:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._received_bytes > MAX_BODY_BYTES:
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


class QuietSite(server.Site):
    """Logs method, path, status and size. Never the query: signatures, session keys and tokens are in it."""

    log_source = Logger()

    def __init__(self, root: Resource) -> None:
        super().__init__(root, requestFactory=BoundedRequest, timeout=IDLE_TIMEOUT_S)

    def startFactory(self) -> None:
        http.HTTPFactory.startFactory(self)

    def log(self, request: http.Request) -> None:
        self.log_source.debug(
            "{method} {path} {status} {sent}",
            method=request.method.decode("latin-1"),
            path=request.path.decode("latin-1"),
            status=request.code,
            sent=request.sentLength,
        )
