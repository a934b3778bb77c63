# SPDX-License-Identifier: Apache-2.0
"""The daemon's HTTP site: a limit on the size of requests, and an access log without secrets."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.web import http, server
from twisted.web.resource import Resource

from systemvm.rpc.http.bounded_request import BoundedRequest

MAX_BODY_BYTES = 256 * 1024
IDLE_TIMEOUT_S = 60


class _BoundedRequest(BoundedRequest):
    max_body_bytes = MAX_BODY_BYTES


class ManagementSite(server.Site):
    """Logs method, path, status and size, but not the query, which contains signatures and session keys."""

    log_source = Logger()

    def __init__(self, root: Resource) -> None:
        super().__init__(root, requestFactory=_BoundedRequest, timeout=IDLE_TIMEOUT_S)

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
